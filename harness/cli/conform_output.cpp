#include "cli/conform_output.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <filesystem>

#include "base/file.hpp"
#include "base/text.hpp"

namespace concord::cli {
using namespace conformance;
namespace {

std::string jsonl(const ConformanceReport& report, const std::string&) {
  std::string text;
  for (const CaseRecord& r : report.records) text += r.to_line() + "\n";
  return text;
}

std::string terminal(const ConformanceReport& report, const std::string&) {
  return terminal_report(report) + (report.folder.empty() ? "" : fmt::format("journal {}/cases.jsonl\n", report.folder));
}

struct Renderer {
  const char* name;
  bool needs_file;
  std::string (*render)(const ConformanceReport& report, const std::string& picture);
};
constexpr Renderer kRenderers[] = {
    {"terminal", false, terminal},
    {"jsonl", true, jsonl},
    {"junit", true, [](const ConformanceReport& r, const std::string&) { return junit_report(r); }},
    {"md", true, markdown_report},
    {"svg", true, [](const ConformanceReport& r, const std::string&) { return margin_map_svg(r); }},
};

const Renderer* renderer_of(const std::string& name) {
  const auto found = std::ranges::find_if(kRenderers, [&](const Renderer& r) { return name == r.name; });
  return found == std::end(kRenderers) ? nullptr : found;
}

Status write_output(const OutputFormat& f, const ConformanceReport& report) {
  std::string picture;
  if (f.format == "md") {
    const std::filesystem::path svg = std::filesystem::path(f.file).replace_extension(".svg");
    picture = svg.filename().string();
    CONCORD_CHECK(write_atomically(svg, margin_map_svg(report)));
  }
  const std::string text = renderer_of(f.format)->render(report, picture);
  if (!f.file.empty()) return write_atomically(f.file, text);
  fmt::print("{}", text);
  return {};
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

Status write_outputs(const std::vector<OutputFormat>& formats, const ConformanceReport& report) {
  bool said = false;
  for (const OutputFormat& f : formats) {
    CONCORD_CHECK(write_output(f, report));
    said = said || f.file.empty();
  }
  if (!said) fmt::print("{}\n", report.verdict.line);
  return {};
}

}  // namespace concord::cli
