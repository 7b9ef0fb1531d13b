#include <chrono>
#include <filesystem>

#include "base/line_server.hpp"
#include "device/provenance.hpp"
#include "experiment/worker.hpp"

namespace concord {
namespace {

std::atomic<bool> never_stop{false};  // a worker is stopped by its parent closing the pipe or killing it

std::string line_of(const Json& json) { return json.dump(-1, ' ', false, Json::error_handler_t::replace); }

Json error_json(const Error& e) {
  Json j{{"kind", static_cast<int>(e.kind)}, {"code", e.code}, {"message", e.message}, {"file", e.file}};
  if (e.offset) j["offset"] = *e.offset;
  return {{"error", j}};
}

// What a worker holds. Declared in order of lifetime: the model must go before the device.
struct Loaded {
  std::unique_ptr<Device> device;
  std::unique_ptr<LoadedModel> model;
  Json ready;
};

Result<Loaded> load(const WorkerKey& key, int out_fd) {
  const auto start = std::chrono::steady_clock::now();
  Loaded out;
  CONCORD_TRY(Device device, Backends::discover().open(key.device, key.threads));
  out.device = std::make_unique<Device>(std::move(device));
  CONCORD_TRY(const auto checkpoint, Checkpoint::open(key.model));
  CONCORD_TRY(const ModelSpec spec, spec_from_path(key.model, *checkpoint));
  CONCORD_TRY(const RunPrecision precision, RunPrecision::parse(key.precision));
  LoadProgress progress;
  progress.step = [out_fd](std::size_t done, std::size_t total) { write_line(out_fd, line_of({{"loading", done}, {"of", total}})); };
  CONCORD_TRY(LoadedModel model, LoadedModel::load(*out.device, *checkpoint, spec, precision, progress));
  out.model = std::make_unique<LoadedModel>(std::move(model));
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  out.ready = {{"ready", true},
               {"weights_digest", out.model->weights_digest()},
               {"source_digest", out.model->source_digest()},
               {"load_seconds", seconds},
               {"weight_bytes", out.model->weight_bytes()},
               {"device", device_json(out.device->facts())},
               {"device_weights", to_json(out.model->device_check())}};
  return out;
}

Json answer(Loaded& loaded, const std::string& line) {
  const auto parsed = parse_json(line, "request", "worker");
  if (!parsed) return error_json(parsed.error());
  const auto request = request_from_json(*parsed);
  if (!request) return error_json(request.error());
  const std::string op = parsed->value("op", "");
  const auto outcome = op == "prove" ? run_prover(*loaded.device, *loaded.model, *request, never_stop)
                                     : run_verifier(*loaded.device, *loaded.model, *request, never_stop);
  if (!outcome) return error_json(outcome.error());
  return {{"outcome", to_json(*outcome)}};
}

}  // namespace

int serve_worker(const WorkerKey& key, int in, int out) {
  die_with_parent();
  auto loaded = load(key, out);
  if (!write_line(out, line_of(loaded ? loaded->ready : error_json(loaded.error()))) || !loaded) return exit_codes::kOk;
  serve_lines(in, out, [&](const std::string& line) { return line_of(answer(*loaded, line)); });
  return exit_codes::kOk;
}

}  // namespace concord
