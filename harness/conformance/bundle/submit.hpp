// `concord submit`: makes a bundle of a finished run, with everything that is needed to judge it elsewhere.
#pragma once
#include <string>

#include "conformance/bundle/bundle.hpp"

namespace concord::conformance {

struct SubmitSettings {
  std::string run;        // folder that `concord conform` wrote: run.json, cases.jsonl, outputs/
  std::string out;        // folder to make; must not be there yet
  std::string statement;  // whatever the submitter has to say; judged by nobody
};

// Written into a temporary folder beside `out` and renamed, so that there is never half a bundle.
// Errors (exit 2): submit.* for a target that exists, a torn journal, an unfinished run, records of several seeds,
// builds or machines, records of another build than this one (its definitions would not be those of the run), and
// statuses that do not follow from their numbers; bundle.duplicate_record; lock.*; file.*.
Result<BundleManifest> submit_run(const SubmitSettings& settings);

}  // namespace concord::conformance
