// Reports from a summary: for a terminal, as Markdown, and the picture that the Markdown shows. Pure functions; nothing is printed here.
#pragma once
#include <string>
#include <vector>

#include "report/summary.hpp"

namespace concord {

// What the reader must know about the run besides its numbers.
struct ReportContext {
  std::string model, workload, devices, command, folder;
  OrderedJson provenance;                 // provenance()
  std::vector<std::string> outputs;       // one line each: prompt, prover's precision, generated text
  std::vector<std::string> notes;         // one paragraph each: what "heterogeneous" means here, what was not run and why
};

std::string terminal_report(const RunSummary& run, const ReportContext& context);
std::string markdown_report(const RunSummary& run, const ReportContext& context);
// Accept rate by layer (columns) and experiment and profile (rows) as an SVG heat map: green accepted, red refused, hatched where nothing was judged.
std::string accept_rate_svg(const RunSummary& run);

}  // namespace concord
