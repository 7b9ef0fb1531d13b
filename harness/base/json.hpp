// JSON from outside: parsed strictly, with limits, and read field by field with errors that name the field.
#pragma once
#include <cstdint>
#include <limits>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.hpp"

// Compiled once, in json.cpp: in every source that reads or writes JSON it would be a fifth of the compile time.
extern template class nlohmann::basic_json<>;
extern template class nlohmann::basic_json<nlohmann::ordered_map>;

namespace concord {

using Json = nlohmann::json;
using OrderedJson = nlohmann::ordered_json;  // for output, where the order of fields helps the reader

struct JsonLimits {
  std::size_t max_depth = 64;          // nested arrays and objects
  std::size_t max_values = 4'000'000;  // values of any kind in the document
};

// Parses one JSON document (RFC 8259, UTF-8, no comments, no duplicate keys, nothing but white space behind it).
// Error codes are PREFIX + one of .syntax, .not_utf8, .duplicate_key, .too_deep, .too_many_values, with the byte
// position in `file`
// (`base_offset` is added to it, for JSON inside another file).
Result<Json> parse_json(std::string_view text, const std::string& file, std::string_view prefix = "json",
                        const JsonLimits& limits = {}, std::uint64_t base_offset = 0);

// Reads and parses a JSON file of at most `limit` bytes.
Result<Json> read_json(const std::string& file, std::string_view prefix = "json", std::size_t limit = 64u << 20);

// A JSON object being read. Getters fail with PREFIX.missing_field, .wrong_type or .out_of_range and name the field.
// The object must outlive the view.
class JsonFields {
 public:
  static Result<JsonFields> from(const Json& value, std::string file, std::string prefix, std::string path = "");

  bool has(const std::string& key) const {
    return value_->contains(key) && !(*value_)[key].is_null();
  }  // null counts as absent
  const Json& raw(const std::string& key) const { return (*value_)[key]; }
  const Json& json() const { return *value_; }

  Result<std::int64_t> integer(const std::string& key, std::int64_t min = std::numeric_limits<std::int64_t>::min(),
                               std::int64_t max = std::numeric_limits<std::int64_t>::max()) const;
  Result<std::int64_t> integer_or(const std::string& key, std::int64_t fallback, std::int64_t min,
                                  std::int64_t max) const;
  Result<double> number(const std::string& key) const;  // finite
  Result<double> number_or(const std::string& key, double fallback) const;
  Result<bool> boolean_or(const std::string& key, bool fallback) const;
  Result<std::string> string(const std::string& key) const;
  Result<std::string> string_or(const std::string& key, std::string fallback) const;
  Result<std::vector<std::int64_t>> integers(const std::string& key, std::int64_t min, std::int64_t max) const;
  Result<std::vector<std::string>> strings(const std::string& key) const;
  Result<JsonFields> object(const std::string& key) const;
  Result<std::vector<JsonFields>> objects(const std::string& key) const;  // an array of objects

  // Refuses fields outside `known` (PREFIX.unknown_field): a typo in a suite or profile must not be ignored.
  Status only(const std::set<std::string>& known) const;
  // "schema" must equal `expected`, for example "concord.workload/1" (PREFIX.schema_version).
  Status schema(const std::string& expected) const;

  std::unexpected<Error> error(std::string_view suffix, std::string message) const;
  const std::string& file() const { return file_; }

 private:
  JsonFields(const Json& value, std::string file, std::string prefix, std::string path)
      : value_(&value), file_(std::move(file)), prefix_(std::move(prefix)), path_(std::move(path)) {}
  Result<const Json*> find(const std::string& key) const;
  std::unexpected<Error> wrong_type(const std::string& key, std::string_view expected) const;
  std::string name(const std::string& key) const { return path_.empty() ? key : path_ + "." + key; }

  const Json* value_;
  std::string file_, prefix_, path_;
};

}  // namespace concord
