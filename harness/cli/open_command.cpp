// `concord open`: opens one chunk of a capture as a JSON file with its inclusion proof, checks such a file against a
// root, or recomputes the root of a whole capture.
#include <fmt/format.h>

#include <optional>
#include <string>

#include "base/file.hpp"
#include "base/text.hpp"
#include "capture/capture.hpp"
#include "cli/command.hpp"

namespace concord::cli {
namespace {

struct Options {
  std::string capture, out, check, root;
  std::optional<std::int64_t> layer;
  std::optional<std::size_t> chunk;
  bool context = false, verify = false;
};

std::unexpected<Error> usage(std::string message) { return fail(ErrorKind::kUsage, "open.usage", std::move(message)); }

// Which of the three forms was asked for.
enum class Mode { kMake, kCheck, kVerify };
Result<Mode> mode_of(const Options& o) {
  const bool make = o.layer || o.chunk || o.context || !o.out.empty();
  if (!o.check.empty()) {
    if (make || o.verify || !o.capture.empty()) return usage("--check FILE takes --root HEX and nothing else");
    if (o.root.empty())
      return usage("--check FILE needs --root HEX: the root the prover committed to, known from elsewhere");
    return Mode::kCheck;
  }
  if (!o.root.empty()) return usage("--root belongs to --check");
  if (o.capture.empty()) return usage("name a capture, or --check FILE.json --root HEX");
  if (o.verify) return make ? Result<Mode>(usage("--verify stands alone with a capture")) : Mode::kVerify;
  if (o.out.empty()) return usage("--out FILE.json is missing");
  if (o.context ? o.layer || o.chunk : !o.layer || !o.chunk) return usage("give --layer and --chunk, or --context");
  return Mode::kMake;
}

Status make(const Options& o) {
  CONCORD_TRY(const Capture capture, Capture::open(o.capture));
  CONCORD_TRY(const OrderedJson opening,
              o.context ? make_context_opening(capture) : make_opening(capture, *o.layer, *o.chunk));
  CONCORD_CHECK(write_atomically(o.out, opening.dump() + "\n"));
  const std::string what = o.context ? "the context" : fmt::format("layer {}, chunk {}", *o.layer, *o.chunk);
  fmt::print("{}: {} of {}\nroot {}\n", o.out, what, o.capture, hex(capture.root()));
  return {};
}

Status check(const Options& o) {
  const auto root = sha256_from_hex(o.root);
  if (!root) return usage(fmt::format("--root must be 64 hexadecimal digits, found {}", printable(o.root)));
  CONCORD_TRY(const Json opening, read_json(o.check, "opening"));
  CONCORD_CHECK(check_opening(opening, *root, o.check));
  const Json& context = opening["context"];
  if (opening.contains("leaf") && !opening["leaf"].is_null()) {
    const Json& leaf = opening["leaf"];
    fmt::print("ok: hidden-state index {}, positions {} to {} ({} x {} {}) lie under root {}\n",
               leaf["layer"].get<std::int64_t>(), leaf["positions"].front().get<std::int64_t>(),
               leaf["positions"].back().get<std::int64_t>(), leaf["positions"].size(),
               context["hidden"].get<std::int64_t>(), context["dtype"].get<std::string>(), hex(*root));
  } else {
    fmt::print("ok: the context lies under root {}; no chunk was opened\n", hex(*root));
  }
  fmt::print("workload {}\nnonce    {}\nweights  {}\n", printable(context["workload_digest"].get<std::string>()),
             printable(context["nonce"].get<std::string>(), 128),
             printable(context["weights_digest"].get<std::string>()));
  return {};
}

Status verify(const Options& o) {
  CONCORD_TRY(const Capture capture, Capture::open(o.capture));
  CONCORD_CHECK(capture.verify());
  fmt::print("ok: {} leaves give root {}\n", 1 + capture.header().layers.size() * capture.chunks(),
             hex(capture.root()));
  return {};
}

Status run(const Options& o) {
  CONCORD_TRY(const Mode mode, mode_of(o));
  switch (mode) {
    case Mode::kMake:
      return make(o);
    case Mode::kCheck:
      return check(o);
    case Mode::kVerify:
      return verify(o);
  }
  return {};
}

}  // namespace

void add_open_command(CLI::App& root, Context& context) {
  auto options = std::make_shared<Options>();
  CLI::App* command =
      root.add_subcommand("open", "Open a chunk of a capture with its Merkle proof, or check an opening");
  command->add_option("CAPTURE", options->capture, "Capture file (safetensors)");
  command->add_option("--layer", options->layer, "Hidden-state index of the chunk");
  command->add_option("--chunk", options->chunk,
                      fmt::format("Chunk number: {} captured positions each, from 0", kChunkPositions));
  command->add_flag("--context", options->context,
                    "Open the context (leaf 0) alone: workload, nonce, weights, tokens, positions");
  command->add_option("--out", options->out, "Where the opening is written (JSON)");
  command->add_option("--check", options->check, "Check this opening against --root; needs no capture");
  command->add_option("--root", options->root, "Merkle root the prover committed to (64 hexadecimal digits)");
  command->add_flag("--verify", options->verify,
                    "Recompute the Merkle root of the whole capture; a mismatch is bad input (exit 2)");
  command->callback([options, &context] {
    if (const Status status = run(*options); !status) context.fail(status.error());
  });
}

}  // namespace concord::cli
