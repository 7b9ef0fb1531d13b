#include "cli/conform_output.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "base/file.hpp"
#include "base/text.hpp"

namespace concord::cli {
using namespace conformance;
namespace {

struct Content {
  const std::vector<CaseRecord>& records;
  const Verdict& verdict;
  const std::vector<std::string>& notes;
  const std::string& folder;
};

std::string jsonl(const Content& c) {
  std::string text;
  for (const CaseRecord& r : c.records) text += r.to_line() + "\n";
  return text;
}

bool went_well(const CaseRecord& r) {
  return !r.waiver_expired && (r.status == CaseStatus::kPass || r.status == CaseStatus::kWaived || r.status == CaseStatus::kUnsupported);
}

std::string terminal(const Content& c) {
  std::string text;
  for (const CaseRecord& r : c.records) {
    if (went_well(r)) continue;
    text += fmt::format("{} {} {}\n  {}: {}\n", status_name(r.status), r.device, r.id, r.check, printable(r.reason, 600));
    if (r.body.contains("repro") && r.body["repro"].is_string()) text += fmt::format("  {}\n", r.body["repro"].get<std::string>());
  }
  for (const DeviceVerdict& d : c.verdict.devices) {
    std::vector<std::string> counts;
    for (const auto& [status, n] : d.counts) counts.push_back(fmt::format("{} {}", n, status_name(status)));
    text += fmt::format("{}: {}\n", d.device, fmt::join(counts, ", "));
    for (const std::string& id : d.lost) text += fmt::format("  lost: {} is required and was supported when the list was made\n", id);
  }
  for (const std::string& note : c.notes) text += fmt::format("note: {}\n", note);
  return text + fmt::format("journal {}/cases.jsonl\n{}\n", c.folder, c.verdict.line);
}

struct Renderer {
  const char* name;
  bool needs_file;
  std::string (*render)(const Content&);
};
constexpr Renderer kRenderers[] = {{"terminal", false, terminal}, {"jsonl", true, jsonl}};

const Renderer* renderer_of(const std::string& name) {
  const auto found = std::ranges::find_if(kRenderers, [&](const Renderer& r) { return name == r.name; });
  return found == std::end(kRenderers) ? nullptr : found;
}

}  // namespace

std::string format_help() {
  std::vector<std::string> names;
  for (const Renderer& r : kRenderers) names.push_back(r.needs_file ? std::string(r.name) + "=FILE" : r.name);
  return fmt::format("Outputs, repeatable: {} (default: terminal)", fmt::join(names, ", "));
}

Result<std::vector<OutputFormat>> parse_formats(const std::vector<std::string>& arguments) {
  std::vector<OutputFormat> out;
  for (const std::string& argument : arguments) {
    const std::size_t equals = std::min(argument.find('='), argument.size());
    const OutputFormat f{argument.substr(0, equals), equals < argument.size() ? argument.substr(equals + 1) : ""};
    const Renderer* r = renderer_of(f.format);
    if (!r || (r->needs_file && f.file.empty()))
      return fail(ErrorKind::kUsage, "conform.format", fmt::format("\"{}\" is not an output. {}", printable(argument), format_help()));
    out.push_back(f);
  }
  if (out.empty()) out.push_back({"terminal", ""});
  return out;
}

Status write_outputs(const std::vector<OutputFormat>& formats, const std::vector<CaseRecord>& records, const Verdict& verdict,
                     const std::vector<std::string>& notes, const std::string& folder) {
  const Content content{records, verdict, notes, folder};
  bool said = false;
  for (const OutputFormat& f : formats) {
    const std::string text = renderer_of(f.format)->render(content);
    if (f.file.empty()) fmt::print("{}", text);
    else CONCORD_CHECK(write_atomically(f.file, text));
    said = said || f.file.empty();
  }
  if (!said) fmt::print("{}\n", verdict.line);
  return {};
}

}  // namespace concord::cli
