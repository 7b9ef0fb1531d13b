#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "base/text.hpp"
#include "conformance/bundle/bundle.hpp"
#include "digest/digest.hpp"

namespace concord::conformance {
namespace {

// What may stand in a bundle: files at its top by name, files in folders by ending.
constexpr std::array<std::string_view, 4> kTopFiles{"cases.jsonl", "environment.json", "plan.txt", "run.json"};
constexpr std::array<std::pair<std::string_view, std::string_view>, 4> kFolders{
    {{"ops", ".json"}, {"required", ".lock"}, {"waivers", ".json"}, {"outputs", ".bin"}}};
constexpr std::size_t kMaxName = 200, kMaxFiles = 500'000, kMaxDevices = 256, kMaxStatement = 10'000;
constexpr std::int64_t kMaxFileBytes = std::int64_t{1} << 40;

bool is_file_name(std::string_view name) {
  const auto good = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           std::string_view("._-+=,:").contains(c);
  };
  return !name.empty() && name.size() <= kMaxName && name[0] != '.' && std::ranges::all_of(name, good);
}

bool is_device(std::string_view id) {
  const auto good = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || std::string_view("._-:").contains(c);
  };
  return !id.empty() && id.size() <= 64 && std::ranges::all_of(id, good);
}

bool is_digest(std::string_view text) {
  return text.size() == 64 &&
         std::ranges::all_of(text, [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
}

Result<std::string> read_digest(const JsonFields& f, const std::string& key) {
  CONCORD_TRY(std::string text, f.string(key));
  if (!is_digest(text))
    return f.error("digest",
                   fmt::format("{} is \"{}\", expected 64 lowercase hexadecimal digits", key, printable(text)));
  return text;
}

Result<BundleFile> read_file_entry(const JsonFields& f) {
  CONCORD_CHECK(f.only({"path", "bytes", "sha256"}));
  BundleFile file;
  CONCORD_TRY(file.path, f.string("path"));
  if (!is_bundle_path(file.path))
    return f.error("path", fmt::format("\"{}\" is no place for a file of a bundle; docs/bundles.md lists them",
                                       printable(file.path)));
  CONCORD_TRY(const std::int64_t bytes, f.integer("bytes", 0, kMaxFileBytes));
  file.bytes = static_cast<std::uint64_t>(bytes);
  CONCORD_TRY(file.sha256, read_digest(f, "sha256"));
  return file;
}

Result<BundleList> read_list(const JsonFields& f) {
  CONCORD_CHECK(f.only({"name", "devices", "count", "sha256"}));
  BundleList list;
  CONCORD_TRY(list.name, f.string("name"));
  if (!is_file_name(list.name))
    return f.error("path", fmt::format("\"{}\" is not the name of a required list", printable(list.name)));
  CONCORD_TRY(list.devices, f.strings("devices"));
  CONCORD_TRY(const std::int64_t count, f.integer("count", 0, 10'000'000));
  list.count = static_cast<std::uint64_t>(count);
  CONCORD_TRY(list.sha256, read_digest(f, "sha256"));
  return list;
}

Result<std::uint64_t> read_seed(const JsonFields& f) {
  if (!f.has("seed")) return f.error("missing_field", "seed is missing");
  if (!f.raw("seed").is_number_unsigned()) return f.error("wrong_type", "seed must be an integer from 0 to 2^64-1");
  return f.raw("seed").get<std::uint64_t>();
}

Status read_head(const JsonFields& f, BundleManifest& m) {
  CONCORD_TRY(m.statement, f.string("statement"));
  if (m.statement.size() > kMaxStatement)
    return f.error("out_of_range", fmt::format("statement is longer than {} bytes", kMaxStatement));
  CONCORD_TRY(m.date, f.string("date"));
  CONCORD_TRY(const JsonFields program, f.object("program"));
  m.program = program.json();
  CONCORD_TRY(const std::string tier, f.string("tier"));
  const auto known = tier_from_name(tier);
  if (!known) return f.error("out_of_range", "tier: " + known.error().message);
  m.tier = *known;
  CONCORD_TRY(m.seed, read_seed(f));
  CONCORD_TRY(m.devices, f.strings("devices"));
  if (m.devices.empty() || m.devices.size() > kMaxDevices)
    return f.error("out_of_range",
                   fmt::format("devices has {} entries, expected 1 to {}", m.devices.size(), kMaxDevices));
  for (const std::string& id : m.devices)
    if (!is_device(id) || std::ranges::count(m.devices, id) != 1)
      return f.error("out_of_range", fmt::format("device \"{}\" is no id, or stands twice", printable(id)));
  CONCORD_TRY(m.definitions_sha256, read_digest(f, "definitions_sha256"));
  return {};
}

Status read_files(const JsonFields& f, BundleManifest& m) {
  CONCORD_TRY(const std::vector<JsonFields> files, f.objects("files"));
  if (files.size() > kMaxFiles)
    return f.error("out_of_range", fmt::format("files has more than {} entries", kMaxFiles));
  for (const JsonFields& entry : files) {
    CONCORD_TRY(BundleFile file, read_file_entry(entry));
    if (!m.files.empty() && !(m.files.back().path < file.path))
      return f.error("order", fmt::format("\"{}\" stands behind \"{}\"; files are sorted and each stands once",
                                          file.path, m.files.back().path));
    m.files.push_back(std::move(file));
  }
  return {};
}

// What the manifest says of its own files must be so.
Status check_claims(const JsonFields& f, const BundleManifest& m) {
  for (const char* name : {"cases.jsonl", "environment.json", "plan.txt"})
    if (!m.find(name)) return f.error("missing_file", fmt::format("files has no {}", name));
  for (const BundleList& list : m.lists)
    if (!m.find("required/" + list.name + ".lock"))
      return f.error("missing_file", fmt::format("files has no required/{}.lock", list.name));
  const auto in = [&](std::string_view folder) {
    return std::ranges::count_if(m.files, [&](const BundleFile& x) { return x.path.starts_with(folder); });
  };
  if (static_cast<std::uint64_t>(in("outputs/")) != m.outputs)
    return f.error("counts", fmt::format("outputs is {}, but files has {} in outputs/", m.outputs, in("outputs/")));
  if (static_cast<std::size_t>(in("required/")) != m.lists.size())
    return f.error("counts",
                   fmt::format("lists has {} entries, but files has {} in required/", m.lists.size(), in("required/")));
  if (definitions_digest(m.files) != m.definitions_sha256)
    return f.error("digest", "definitions_sha256 is not that of the files in ops/");
  return {};
}

}  // namespace

bool is_bundle_path(std::string_view path) {
  const std::size_t slash = path.find('/');
  if (slash == std::string_view::npos) return std::ranges::find(kTopFiles, path) != kTopFiles.end();
  const std::string_view folder = path.substr(0, slash), name = path.substr(slash + 1);
  for (const auto& [known, ending] : kFolders)
    if (folder == known) return is_file_name(name) && name.size() > ending.size() && name.ends_with(ending);
  return false;
}

std::string definitions_digest(const std::vector<BundleFile>& files) {
  std::string text;
  for (const BundleFile& f : files)
    if (f.path.starts_with("ops/")) text += f.path.substr(4) + " " + f.sha256 + "\n";
  return sha256_hex(text);
}

const BundleFile* BundleManifest::find(std::string_view path) const {
  const auto it =
      std::ranges::lower_bound(files, path, {}, [](const BundleFile& f) { return std::string_view(f.path); });
  return it != files.end() && it->path == path ? &*it : nullptr;
}

std::string BundleManifest::to_text() const {
  OrderedJson j{{"schema", kBundleSchema},
                {"statement", statement},
                {"date", date},
                {"program", program},
                {"tier", tier_name(tier)},
                {"seed", seed},
                {"devices", devices},
                {"lists", OrderedJson::array()},
                {"definitions_sha256", definitions_sha256},
                {"records", records},
                {"outputs", outputs},
                {"files", OrderedJson::array()}};
  for (const BundleList& l : lists)
    j["lists"].push_back({{"name", l.name}, {"devices", l.devices}, {"count", l.count}, {"sha256", l.sha256}});
  for (const BundleFile& f : files) j["files"].push_back({{"path", f.path}, {"bytes", f.bytes}, {"sha256", f.sha256}});
  return j.dump(1, ' ', false, OrderedJson::error_handler_t::replace) + "\n";
}

Result<BundleManifest> BundleManifest::parse(std::string_view text, const std::string& file) {
  CONCORD_TRY(const Json json, parse_json(text, file, "bundle", {.max_depth = 8, .max_values = 4'000'000}));
  CONCORD_TRY(const JsonFields f, JsonFields::from(json, file, "bundle"));
  CONCORD_CHECK(f.schema(kBundleSchema));
  CONCORD_CHECK(f.only({"schema", "statement", "date", "program", "tier", "seed", "devices", "lists",
                        "definitions_sha256", "records", "outputs", "files"}));
  BundleManifest m;
  CONCORD_CHECK(read_head(f, m));
  CONCORD_TRY(const std::vector<JsonFields> lists, f.objects("lists"));
  for (const JsonFields& entry : lists) {
    CONCORD_TRY(BundleList list, read_list(entry));
    m.lists.push_back(std::move(list));
  }
  for (const auto& [key, to] : {std::pair{"records", &m.records}, std::pair{"outputs", &m.outputs}}) {
    CONCORD_TRY(const std::int64_t n, f.integer(key, 0, 1'000'000'000));
    *to = static_cast<std::uint64_t>(n);
  }
  CONCORD_CHECK(read_files(f, m));
  CONCORD_CHECK(check_claims(f, m));
  return m;
}

}  // namespace concord::conformance
