// Required-case lists, suites/required/*.lock: what a device must have passed before a run may be called green. Text, so that a lost capability shows in a diff.
#pragma once
#include <optional>
#include <string>
#include <vector>

#include "conformance/suite/case.hpp"

namespace concord::conformance {

// # concord required cases, version 1
// devices cpu:avx512 cpu:avx2 cpu:strict      (ids; "*" stands for one part between colons, but not for the backend)
// tier smoke
// witness *: cpu {variant} *   (globs that the name of each kernel must match, separated by " | "; {variant}: what follows the last colon of the device's id)
// count 312
// sha256 <of the ids, each followed by a newline>
// <one id a line, sorted>
struct RequiredList {
  std::string file, name;  // name: the file's, without folder and ".lock"
  std::vector<std::string> devices;
  Tier tier = Tier::kSmoke;
  std::string witness;
  std::vector<std::string> ids;
  std::string digest;  // hex

  bool covers(const std::string& device) const;
  std::string witness_for(const std::string& device) const;  // the pattern, with {variant} replaced
  std::string to_text() const;
  // Errors: lock.* with the line: syntax, version, count, digest, order, duplicate, a bad id or regular expression.
  static Result<RequiredList> parse(std::string_view text, const std::string& file);
};

// All lists of a folder (empty: $CONCORD_SUITES/required, else the tree's).
Result<std::vector<RequiredList>> load_required(const std::string& folder = {});
// The list for a device and tier; more than one is an error (lock.ambiguous), none is std::nullopt.
Result<std::optional<RequiredList>> required_for(const std::vector<RequiredList>& lists, const std::string& device, Tier tier);
// For each device the list of `first`, or where it has none, of `second`; each list once.
Result<std::vector<RequiredList>> required_of(const std::vector<RequiredList>& first, const std::vector<RequiredList>& second,
                                              const std::vector<std::string>& devices, Tier tier);
std::string ids_digest(const std::vector<std::string>& sorted_ids);

}  // namespace concord::conformance
