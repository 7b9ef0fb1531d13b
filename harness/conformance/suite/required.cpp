#include "conformance/suite/required.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <filesystem>

#include "base/file.hpp"
#include "base/text.hpp"
#include "conformance/suite/folders.hpp"
#include "device/device_id.hpp"
#include "digest/digest.hpp"

namespace concord::conformance {
namespace {

namespace fs = std::filesystem;
constexpr const char* kFirstLine = "# concord required cases, version 1";
constexpr std::string_view kVariant = "{variant}";
constexpr std::ptrdiff_t kLeastLiteral = 3;
constexpr std::size_t kMaxIds = 100'000, kMaxDevices = 64, kMaxLine = 4096, kMaxFileBytes = 64u << 20, kMaxFiles = 256, kMaxWitness = 500;

// Parts between colons, none empty, "*" for a whole one; the backend stands for itself, else a list would speak of devices that nobody has seen.
bool is_pattern(std::string_view text) {
  const auto good = [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' || c == '_' || c == '-'; };
  const auto parts = device_id_parts(text);
  return text.size() <= 64 && parts.front() != "*" && std::ranges::all_of(parts, [&](std::string_view part) {
           return part == "*" || (!part.empty() && std::ranges::all_of(part, good));
         });
}

// Reads line by line; every line ends in \n.
class Reader {
 public:
  Reader(std::string_view text, const std::string& file) : text_(text), file_(file) {}

  std::unexpected<Error> wrong(const char* code, const std::string& what) const {
    return bad_input(code, fmt::format("line {}: {}", line_, what), file_);
  }
  bool at_end() const { return at_ == text_.size(); }
  Result<std::string_view> line() {
    ++line_;
    if (at_end()) return wrong("lock.syntax", "the file ends here");
    const std::size_t end = text_.find('\n', at_);
    if (end == std::string_view::npos) return wrong("lock.syntax", "the last line has no end of line: the file may be cut off");
    if (end - at_ > kMaxLine) return wrong("lock.syntax", fmt::format("longer than {} characters", kMaxLine));
    const std::string_view found = text_.substr(at_, end - at_);
    at_ = end + 1;
    return found;
  }
  // "KEY value": the value, which must not be empty.
  Result<std::string> field(const std::string& key) {
    CONCORD_TRY(const std::string_view found, line());
    if (!found.starts_with(key + " ") || found.size() == key.size() + 1)
      return wrong("lock.syntax", fmt::format("expected \"{} VALUE\", found \"{}\"", key, printable(found)));
    return std::string(found.substr(key.size() + 1));
  }

 private:
  std::string_view text_;
  const std::string& file_;
  std::size_t at_ = 0, line_ = 0;
};

Status read_devices(Reader& r, RequiredList& list) {
  CONCORD_TRY(const std::string all, r.field("devices"));
  for (std::size_t at = 0; at <= all.size();) {
    const std::size_t space = std::min(all.find(' ', at), all.size());
    const std::string one = all.substr(at, space - at);
    at = space + 1;
    if (!is_pattern(one) || list.devices.size() == kMaxDevices)
      return r.wrong("lock.syntax", fmt::format("\"{}\" is no device id; expected ids such as cpu:avx2, cuda:* or cuda:*:portable, with one space between, at most {}", printable(one), kMaxDevices));
    if (std::ranges::find(list.devices, one) != list.devices.end()) return r.wrong("lock.duplicate", fmt::format("the device {} stands twice", one));
    list.devices.push_back(one);
  }
  return {};
}

// Whether each of the patterns, separated by " | ", holds enough text to tell one device's kernels from another's. Punctuation stands in every kernel's name, and
// what {variant} becomes is the device's choice: one letter would do.
bool says_something(std::string_view witness) {
  for (std::size_t end; !witness.empty(); witness.remove_prefix(std::min(end + 3, witness.size()))) {
    end = std::min(witness.find(" | "), witness.size());
    std::string one(witness.substr(0, end));
    for (std::size_t at; (at = one.find(kVariant)) != std::string::npos;) one.erase(at, kVariant.size());
    const auto literal = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9'); };
    if (std::ranges::count_if(one, literal) < kLeastLiteral) return false;
  }
  return true;
}

Status read_head(Reader& r, RequiredList& list, std::size_t& count) {
  CONCORD_TRY(const std::string_view first, r.line());
  if (first != kFirstLine) return r.wrong("lock.version", fmt::format("expected \"{}\", found \"{}\"", kFirstLine, printable(first)));
  CONCORD_CHECK(read_devices(r, list));
  CONCORD_TRY(const std::string tier, r.field("tier"));
  const auto known = tier_from_name(tier);
  if (!known) return r.wrong("lock.syntax", known.error().message);
  list.tier = *known;
  CONCORD_TRY(list.witness, r.field("witness"));
  if (list.witness.size() > kMaxWitness) return r.wrong("lock.witness", fmt::format("the pattern is longer than {} characters", kMaxWitness));
  if (!says_something(list.witness))
    return r.wrong("lock.witness", fmt::format("\"{}\" would let nearly any kernel through; each pattern needs at least {} letters or digits beside {{variant}}", printable(list.witness), kLeastLiteral));
  CONCORD_TRY(const std::string number, r.field("count"));
  const auto [end, code] = std::from_chars(number.data(), number.data() + number.size(), count);
  if (code != std::errc() || end != number.data() + number.size() || std::to_string(count) != number || count == 0 || count > kMaxIds)
    return r.wrong("lock.count", fmt::format("\"{}\" is not a number of 1 to {}", printable(number), kMaxIds));
  CONCORD_TRY(list.digest, r.field("sha256"));
  if (!sha256_from_hex(list.digest) || std::ranges::any_of(list.digest, [](char c) { return c >= 'A' && c <= 'F'; }))
    return r.wrong("lock.digest", "expected 64 lowercase hexadecimal digits");
  return {};
}

}  // namespace

std::string ids_digest(const std::vector<std::string>& sorted_ids) {
  Hasher hasher;
  for (const std::string& id : sorted_ids) hasher.update(id).update(std::string_view("\n"));
  return hex(hasher.finish());
}

std::string RequiredList::witness_for(const std::string& device) const {
  const std::string variant(device_id_parts(device).back());  // the whole id where it has no colon
  std::string out = witness;
  for (std::size_t at = 0; (at = out.find(kVariant, at)) != std::string::npos; at += variant.size()) out.replace(at, kVariant.size(), variant);
  return out;
}

bool RequiredList::covers(const std::string& device) const {
  return std::ranges::any_of(devices, [&](const std::string& pattern) { return matches_device(pattern, device); });
}

std::string RequiredList::to_text() const {
  std::string text = fmt::format("{}\ndevices {}\ntier {}\nwitness {}\ncount {}\nsha256 {}\n", kFirstLine, fmt::join(devices, " "), tier_name(tier), witness,
                                 ids.size(), ids_digest(ids));
  for (const std::string& id : ids) text += id + "\n";
  return text;
}

Result<RequiredList> RequiredList::parse(std::string_view text, const std::string& file) {
  RequiredList list;
  list.file = file, list.name = fs::path(file).stem().string();
  Reader r(text, file);
  std::size_t count = 0;
  CONCORD_CHECK(read_head(r, list, count));
  while (!r.at_end()) {
    CONCORD_TRY(const std::string_view id, r.line());
    if (list.ids.size() == count) return r.wrong("lock.count", fmt::format("more ids than the {} that the head counts", count));
    if (const auto spec = CaseSpec::parse(id); !spec) return r.wrong("lock.bad_id", spec.error().message);
    if (!list.ids.empty() && list.ids.back() == id) return r.wrong("lock.duplicate", fmt::format("{} stands twice", printable(id, 200)));
    if (!list.ids.empty() && list.ids.back() > id) return r.wrong("lock.order", fmt::format("{} stands behind {}; ids are sorted", printable(id, 200), list.ids.back()));
    list.ids.emplace_back(id);
  }
  if (list.ids.size() != count) return bad_input("lock.count", fmt::format("{} ids, but the head counts {}: the file may be cut off", list.ids.size(), count), file);
  if (const std::string found = ids_digest(list.ids); found != list.digest)
    return bad_input("lock.digest", fmt::format("the ids have SHA-256 {}, the head says {}; make the list with concord plan --lock", found, list.digest), file);
  return list;
}

Result<std::vector<RequiredList>> load_required(const std::string& given) {
  const std::string folder = given.empty() ? data_folder("required") : given;
  CONCORD_TRY(const std::vector<std::string> files, files_of(folder, ".lock", kMaxFiles));
  std::vector<RequiredList> lists;
  for (const std::string& file : files) {
    CONCORD_TRY(const std::string text, read_text(file, kMaxFileBytes));
    CONCORD_TRY(RequiredList list, RequiredList::parse(text, file));
    lists.push_back(std::move(list));
  }
  return lists;
}

Result<std::optional<RequiredList>> required_for(const std::vector<RequiredList>& lists, const std::string& device, Tier tier) {
  const RequiredList* found = nullptr;
  for (const RequiredList& list : lists) {
    if (list.tier != tier || !list.covers(device)) continue;
    if (found)
      return bad_input("lock.ambiguous", fmt::format("{} and {} both say what {} must pass in the tier {}", found->name, list.name, device, tier_name(tier)), list.file);
    found = &list;
  }
  return found ? std::optional(*found) : std::nullopt;
}

Result<std::vector<RequiredList>> required_of(const std::vector<RequiredList>& first, const std::vector<RequiredList>& second,
                                              const std::vector<std::string>& devices, Tier tier) {
  std::vector<RequiredList> out;
  for (const std::string& device : devices) {
    CONCORD_TRY(auto list, required_for(first, device, tier));
    if (!list) {
      CONCORD_TRY(list, required_for(second, device, tier));
    }
    const auto same = [&](const RequiredList& l) { return l.file == list->file; };
    if (list && std::ranges::none_of(out, same)) out.push_back(std::move(*list));
  }
  return out;
}

}  // namespace concord::conformance
