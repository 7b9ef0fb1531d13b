#include "cli/model_arguments.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <filesystem>

#include "base/text.hpp"
#include "experiment/suite.hpp"

namespace concord::cli {
namespace fs = std::filesystem;

Result<OpenedModel> open_model(const std::string& path) {
  OpenedModel m{.path = path.empty() ? embedded_model() : path, .name = {}, .checkpoint = {}, .spec = {}, .tokens = TokenTable::bytes()};
  std::error_code ignored;
  fs::path canonical = fs::weakly_canonical(m.path, ignored);
  m.name = (fs::is_directory(canonical, ignored) ? canonical.filename() : canonical.stem()).string();
  CONCORD_TRY(m.checkpoint, Checkpoint::open(m.path));
  CONCORD_TRY(m.spec, spec_from_path(m.path, *m.checkpoint));
  CONCORD_TRY(m.tokens, TokenTable::load(m.path, *m.checkpoint));
  return m;
}

Result<std::vector<Workload>> open_workloads(const std::string& argument, const OpenedModel& model) {
  std::string file = argument, id;
  if (const std::size_t colon = argument.rfind(".json:"); colon != std::string::npos) {
    file = argument.substr(0, colon + 5);
    id = argument.substr(colon + 6);
  }
  if (file.empty()) {
    const auto found = workload_for(model.tokens.sha256());
    if (!found)
      return bad_input("workload.none_fits",
                       fmt::format("no workload in {}/workloads has this model's tokenizer ({}); make one with scripts/make_workload.py "
                                   "and name it with --workload", suites_folder(), model.tokens.sha256()), model.path);
    file = *found;
  }
  CONCORD_TRY(std::vector<Workload> all, load_workloads(file));
  std::vector<Workload> out;
  for (Workload& w : all) {
    if (!id.empty() && w.id != id) continue;
    CONCORD_CHECK(bind_workload(w, model.spec, model.tokens));
    out.push_back(std::move(w));
  }
  if (out.empty()) return fail(ErrorKind::kNothingRun, "workload.unknown_prompt", fmt::format("no prompt \"{}\" in this file", id), file);
  return out;
}

Worker::LoadingStep loading_line(const std::string& model) {
  if (!::isatty(STDERR_FILENO)) return {};
  return [model](std::uint64_t done, std::uint64_t total) {
    fmt::print(stderr, "\r\x1b[K{}", done < total ? fmt::format("loading {}: {} of {} tensors", printable(model, 60), done, total) : "");
    std::fflush(stderr);
  };
}

}  // namespace concord::cli
