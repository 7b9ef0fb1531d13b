// `concord inspect CAPTURE`: who made a capture, of what, how large, and what the states look like.
#include <fmt/format.h>

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "base/text.hpp"
#include "capture/capture.hpp"
#include "capture/statistics.hpp"
#include "cli/command.hpp"

namespace concord::cli {
namespace {

struct Options {
  std::string file;
  bool json = false, verify = false;
};

constexpr std::size_t kSparklineWidth = 32;  // columns

// Everything that is shown, in text or JSON.
struct Summary {
  std::uint64_t bytes = 0;
  bool verified = false;
  std::vector<LayerStatistics> layers;
};

OrderedJson to_json(const LayerStatistics& s) {
  return {{"layer", s.layer},     {"elements", s.elements}, {"rms", s.rms}, {"mean", s.mean},
          {"max_abs", s.max_abs}, {"nan", s.nan},           {"inf", s.inf}, {"zeros", s.zeros}};
}

void print_json(const Capture& capture, const Summary& summary) {
  const CaptureHeader& h = capture.header();
  OrderedJson layers = OrderedJson::array();
  for (const LayerStatistics& s : summary.layers) layers.push_back(to_json(s));
  const OrderedJson out{{"schema", "concord.inspect/1"},
                        {"file", capture.path()},
                        {"bytes", summary.bytes},
                        {"role", h.role},
                        {"workload_id", h.workload_id},
                        {"workload_digest", h.workload_digest},
                        {"nonce", h.nonce},
                        {"model", h.model},
                        {"weights_digest", h.weights_digest},
                        {"source_digest", h.source_digest},
                        {"model_layers", h.model_layers},
                        {"hidden", h.hidden},
                        {"dtype", std::string(dtype_name(h.dtype))},
                        {"prompt_tokens", h.prompt_tokens},
                        {"tokens", h.tokens},
                        {"positions", h.positions},
                        {"merkle_root", hex(capture.root())},
                        {"merkle_leaves", 1 + h.layers.size() * capture.chunks()},
                        {"verified", summary.verified ? OrderedJson(true) : OrderedJson(nullptr)},
                        {"configuration", h.configuration},
                        {"provenance", h.provenance},
                        {"layers", layers}};
  fmt::print("{}\n", out.dump(2, ' ', false, OrderedJson::error_handler_t::replace));
}

void print_field(std::string_view name, std::string_view value) {
  fmt::print("  {:<18} {}\n", name, value.empty() ? "(not stated)" : printable(value, 100));
}

// One line per leaf of a JSON object, nested names joined with dots.
void print_object(const OrderedJson& value, const std::string& prefix) {
  for (const auto& [key, member] : value.items()) {
    const std::string name = prefix.empty() ? key : prefix + "." + key;
    if (member.is_object())
      print_object(member, name);
    else
      print_field(printable(name, 40), member.is_string()
                                           ? member.get<std::string>()
                                           : member.dump(-1, ' ', false, OrderedJson::error_handler_t::replace));
  }
}

// "0..14, 20, 22..31": runs of consecutive numbers.
template <class T>
std::string ranges(const std::vector<T>& values) {
  std::string out;
  for (std::size_t i = 0; i < values.size();) {
    std::size_t end = i;
    while (end + 1 < values.size() && values[end + 1] == values[end] + 1) ++end;
    out += (out.empty() ? "" : ", ") + std::to_string(values[i]);
    if (end > i) out += ".." + std::to_string(values[end]);
    i = end + 1;
  }
  return out;
}

void print_layers(const std::vector<LayerStatistics>& layers) {
  fmt::print("\nStates (the line shows rms over the captured positions, each layer on its own scale)\n");
  fmt::print("  {:>5} {:>12} {:>12} {:>12} {:>8} {:>8}\n", "layer", "rms", "mean", "max |x|", "NaN", "Inf");
  std::vector<double> rms;
  for (const LayerStatistics& s : layers) {
    fmt::print("  {:>5} {:>12.5g} {:>12.3g} {:>12.5g} {:>8} {:>8}  {}\n", s.layer, s.rms, s.mean, s.max_abs, s.nan,
               s.inf, sparkline(s.row_rms, kSparklineWidth));
    rms.push_back(s.rms);
  }
  fmt::print("  rms over the layers: {}\n", sparkline(rms, kSparklineWidth));
}

void print_text(const Capture& capture, const Summary& summary) {
  const CaptureHeader& h = capture.header();
  fmt::print("{}: capture by a {}, {} bytes\n\nWhat\n", printable(capture.path(), 200), h.role, summary.bytes);
  print_field("workload", h.workload_id);
  print_field("workload digest", h.workload_digest);
  print_field("nonce", h.nonce);
  print_field("model", h.model);
  print_field("weights digest", h.weights_digest);
  print_field("source digest", h.source_digest);
  print_field("tokens", fmt::format("{}, of which {} are the prompt", h.tokens.size(), h.prompt_tokens));
  print_field("positions", fmt::format("{} ({})", h.positions.size(), ranges(h.positions)));
  print_field("layers", fmt::format("{} of 0..{} ({})", h.layers.size(), h.model_layers, ranges(h.layers)));
  print_field("states", fmt::format("{} x {} in {}", h.positions.size(), h.hidden, dtype_name(h.dtype)));
  print_field("merkle root", hex(capture.root()));
  print_field("root check",
              summary.verified ? fmt::format("recomputed from {} leaves: equal", 1 + h.layers.size() * capture.chunks())
                               : "not recomputed (--verify does)");
  fmt::print("\nConfiguration (like the provenance, the maker's statement: not bound by the root)\n");
  print_object(h.configuration, "");
  fmt::print("\nProvenance\n");
  print_object(h.provenance, "");
  print_layers(summary.layers);
}

Status inspect(const Options& o) {
  CONCORD_TRY(const Capture capture, Capture::open(o.file));
  if (o.verify) CONCORD_CHECK(capture.verify());
  std::error_code ignored;
  const Summary summary{.bytes = std::filesystem::file_size(o.file, ignored),
                        .verified = o.verify,
                        .layers = all_layer_statistics(capture)};
  if (o.json)
    print_json(capture, summary);
  else
    print_text(capture, summary);
  return {};
}

}  // namespace

void add_inspect_command(CLI::App& root, Context& context) {
  auto options = std::make_shared<Options>();
  CLI::App* command = root.add_subcommand("inspect", "Show who made a capture, of what, and what its states look like");
  command->add_option("CAPTURE", options->file, "Capture file (safetensors)")->required();
  command->add_flag("--json", options->json, "Print one JSON object");
  command->add_flag("--verify", options->verify, "Recompute the Merkle root; a mismatch is bad input (exit 2)");
  command->callback([options, &context] {
    if (const Status status = inspect(*options); !status) context.fail(status.error());
  });
}

}  // namespace concord::cli
