// concord checkpoint inspect FILE|DIR: what a model file holds, or why it is refused.
#include <fmt/format.h>

#include <cmath>
#include <map>

#include "base/json.hpp"
#include "base/text.hpp"
#include "checkpoint/checkpoint.hpp"
#include "checkpoint/finite.hpp"
#include "cli/command.hpp"

namespace concord::cli {
namespace {

struct Options {
  std::string path;
  bool json = false, tensors = true, metadata = true, check = false;
};

// Per stored type, and over all.
struct Total {
  std::uint64_t tensors = 0, elements = 0, bytes = 0;
  bool decodable = true;
  void add(const TensorInfo& t) {
    ++tensors;
    elements += t.elements;
    bytes += t.bytes;
    decodable = decodable && t.decodable;
  }
};
struct Totals {
  std::map<std::string, Total> by_type;
  Total all;
};
Totals count(const Checkpoint& checkpoint) {
  Totals out;
  for (const TensorInfo& t : checkpoint.tensors()) {
    out.by_type[t.type].add(t);
    out.all.add(t);
  }
  return out;
}

// 15191712 -> "15,191,712"
std::string grouped(std::uint64_t n) {
  const std::string digits = std::to_string(n);
  std::string out;
  for (std::size_t i = 0; i < digits.size(); ++i) {
    if (i > 0 && (digits.size() - i) % 3 == 0) out += ',';
    out += digits[i];
  }
  return out;
}
std::string human(std::uint64_t n, double base, std::initializer_list<const char*> units) {
  double v = static_cast<double>(n);
  auto unit = units.begin();
  while (v >= base && unit + 1 != units.end()) v /= base, ++unit;
  return unit == units.begin() ? fmt::format("{} {}", n, *unit) : fmt::format("{:.4g} {}", v, *unit);
}
std::string human_bytes(std::uint64_t n) { return human(n, 1024, {"bytes", "KiB", "MiB", "GiB", "TiB"}); }
std::string human_count(std::uint64_t n) {
  return human(n, 1000, {"parameters", "thousand parameters", "million parameters", "billion parameters"});
}

// A table as text: the first column and those in `left` are left-aligned, the others right-aligned.
class Table {
 public:
  Table(std::vector<std::string> head, std::string alignment) : alignment_(std::move(alignment)) {
    add(std::move(head));
  }
  void add(std::vector<std::string> row) {
    widths_.resize(row.size(), 0);
    for (std::size_t i = 0; i < row.size(); ++i) widths_[i] = std::max(widths_[i], columns(row[i]));
    rows_.push_back(std::move(row));
  }
  void print() const {
    for (const auto& row : rows_) {
      std::string line = " ";
      for (std::size_t i = 0; i < row.size(); ++i) {
        const std::string gap(widths_[i] - columns(row[i]), ' ');
        line += alignment_[i] == 'l' ? fmt::format(" {}{} ", row[i], gap) : fmt::format(" {}{} ", gap, row[i]);
      }
      line.erase(line.find_last_not_of(' ') + 1);
      fmt::print("{}\n", line);
    }
  }

 private:
  // Code points, not bytes: continuation bytes take no column.
  static std::size_t columns(const std::string& s) {
    std::size_t n = 0;
    for (const char c : s) n += (static_cast<unsigned char>(c) & 0xC0u) != 0x80u;
    return n;
  }
  std::string alignment_;
  std::vector<std::size_t> widths_;
  std::vector<std::vector<std::string>> rows_;
};

std::string scalar_text(const Json& v) {
  if (v.is_string()) return fmt::format("\"{}\"", printable(v.get_ref<const std::string&>(), 60));
  if (!v.is_number_float()) return printable(v.dump(-1, ' ', true, Json::error_handler_t::replace), 60);
  const auto d = v.get<double>();
  const auto f = static_cast<float>(d);  // most are stored as f32: show 1e-05, not 9.999999747378752e-06
  return static_cast<double>(f) == d ? fmt::format("{}", f) : fmt::format("{}", d);
}

// Arrays are abbreviated: a vocabulary has a hundred thousand entries.
std::string value_text(const Json& v) {
  if (!v.is_array()) return scalar_text(v);
  constexpr std::size_t kShown = 4;
  std::string out = "[";
  for (std::size_t i = 0; i < std::min(v.size(), kShown); ++i) out += (i ? ", " : "") + scalar_text(v[i]);
  return out + (v.size() > kShown ? fmt::format(", ...] ({} values)", grouped(v.size())) : "]");
}

void print_tensors(const Checkpoint& checkpoint) {
  const bool several = checkpoint.files().size() > 1;
  Table table({"tensor", "type", "shape", "bytes", "offset", several ? "file" : ""}, "lllrrr");
  for (const TensorInfo& t : checkpoint.tensors())
    table.add({printable(t.name, 120), t.type, shape_string(t.shape), grouped(t.bytes), grouped(t.offset),
               several ? std::to_string(t.file) : ""});
  fmt::print("\n");
  table.print();
}

void print_totals(const Totals& totals) {
  Table table({"type", "tensors", "parameters", "bytes", "bits each", ""}, "lrrrrl");
  const auto row = [&](const std::string& name, const Total& t, const char* note) {
    const double bits = t.elements ? 8.0 * static_cast<double>(t.bytes) / static_cast<double>(t.elements) : 0.0;
    table.add({name, grouped(t.tensors), grouped(t.elements), grouped(t.bytes),
               t.elements ? fmt::format("{:.4g}", bits) : "-", note});
  };
  for (const auto& [type, total] : totals.by_type)
    row(type, total, total.decodable ? "" : "not decodable by this build");
  if (totals.by_type.size() > 1) row("all", totals.all, "");
  fmt::print("\n");
  table.print();
}

void print_metadata(const Json& metadata) {
  fmt::print("\n  metadata: {}\n",
             metadata.empty() ? "none" : grouped(metadata.size()) + (metadata.size() == 1 ? " entry" : " entries"));
  Table table({"", "", ""}, "lll");
  for (const auto& [key, value] : metadata.items()) table.add({printable(key, 80), "=", value_text(value)});
  if (!metadata.empty()) table.print();
}

void print_text(const Checkpoint& checkpoint, const Options& options) {
  const Totals totals = count(checkpoint);
  fmt::print("{}\n  {}, {} tensor{}, {}, {}\n", printable(options.path, 500), checkpoint.format(),
             grouped(totals.all.tensors), totals.all.tensors == 1 ? "" : "s", human_count(totals.all.elements),
             human_bytes(totals.all.bytes));
  if (checkpoint.files().size() > 1) fmt::print("\n");
  for (std::size_t i = 0; checkpoint.files().size() > 1 && i < checkpoint.files().size(); ++i)
    fmt::print("  file {}: {}\n", i, printable(checkpoint.files()[i], 500));
  if (options.tensors) print_tensors(checkpoint);
  if (!totals.by_type.empty()) print_totals(totals);
  if (options.metadata) print_metadata(checkpoint.metadata());
}

OrderedJson total_json(const Total& t) {
  return {{"tensors", t.tensors}, {"parameters", t.elements}, {"bytes", t.bytes}, {"decodable", t.decodable}};
}

// Non-finite metadata numbers become null and invalid UTF-8 U+FFFD: JSON has neither.
void print_json(const Checkpoint& checkpoint, const Options& options) {
  const Totals totals = count(checkpoint);
  OrderedJson out = {
      {"schema", "concord.checkpoint-inspect/1"}, {"format", checkpoint.format()}, {"files", checkpoint.files()}};
  out["total"] = total_json(totals.all);
  out["types"] = OrderedJson::object();
  for (const auto& [type, total] : totals.by_type) out["types"][type] = total_json(total);
  if (options.tensors) {
    out["tensors"] = OrderedJson::array();
    for (const TensorInfo& t : checkpoint.tensors())
      out["tensors"].push_back({{"name", t.name},
                                {"type", t.type},
                                {"shape", t.shape},
                                {"bytes", t.bytes},
                                {"offset", t.offset},
                                {"file", t.file}});
  }
  if (options.metadata) out["metadata"] = checkpoint.metadata();
  fmt::print("{}\n", out.dump(2, ' ', true, OrderedJson::error_handler_t::replace));
}

// Reads every element; tensors that cannot be decoded are counted, never silently passed.
Status check_all(const Checkpoint& checkpoint, bool quiet) {
  std::uint64_t checked = 0, skipped = 0;
  for (const TensorInfo& t : checkpoint.tensors()) {
    if (!t.decodable) {
      ++skipped;
      continue;
    }
    CONCORD_CHECK(check_finite(checkpoint, t));
    ++checked;
  }
  CONCORD_CHECK(checkpoint.unchanged());
  if (checked == 0)
    return fail(ErrorKind::kNothingRun, "checkpoint.nothing_checked", "no tensor could be decoded, so none was checked",
                checkpoint.files()[0]);
  if (!quiet)
    fmt::print("\n  checked: {} tensor{} finite{}\n", grouped(checked), checked == 1 ? "" : "s",
               skipped ? fmt::format(", {} NOT CHECKED (not decodable)", grouped(skipped)) : "");
  return {};
}

void inspect(const Options& options, Context& context) {
  const auto checkpoint = Checkpoint::open(options.path);
  if (!checkpoint) return context.fail(checkpoint.error());
  options.json ? print_json(**checkpoint, options) : print_text(**checkpoint, options);
  if (!options.check) return;
  if (const Status status = check_all(**checkpoint, options.json); !status) context.fail(status.error());
}

}  // namespace

void add_checkpoint_command(CLI::App& root, Context& context) {
  CLI::App* command =
      root.add_subcommand("checkpoint", "Look into model files: safetensors, sharded safetensors, GGUF");
  command->require_subcommand(1);
  CLI::App* sub = command->add_subcommand(
      "inspect", "List tensors, types, shapes, sizes and metadata; a file that breaks its format is exit 2");
  auto options = std::make_shared<Options>();
  sub->add_option("path", options->path,
                  "A .safetensors or .gguf file, a shard index, or a folder that holds one model")
      ->required();
  sub->add_flag("--json", options->json, "Print one JSON object (arrays of metadata in full)");
  sub->add_flag("--tensors,!--no-tensors", options->tensors, "List every tensor (default: on)");
  sub->add_flag("--metadata,!--no-metadata", options->metadata, "Show the metadata (default: on)");
  sub->add_flag("--check", options->check,
                "Also read every element and refuse NaN and infinity, with the byte position");
  sub->callback([options, &context] { inspect(*options, context); });
}

}  // namespace concord::cli
