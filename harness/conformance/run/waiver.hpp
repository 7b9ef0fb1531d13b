// Waivers, suites/waivers/*.json (schema concord.waivers/1): known failures that do not count for a while, with a reason, a link and an end.
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "base/glob.hpp"
#include "conformance/run/evidence.hpp"

namespace concord::conformance {

struct Waiver {
  std::string id;                     // unique, stands in records: "onednn-2.6-thread-split"
  std::string cases;                  // glob over case ids: * and ?
  std::vector<std::string> devices;   // globs over device ids, at least one; "*" alone is refused
  std::vector<CaseStatus> statuses;   // which outcomes it excuses; never PASS
  double bound = 0;                   // largest excused margin (error / rigorous bound); for statuses without a margin it must be 0
  std::string reason, link, expires;  // expires: "2027-03-31", the last valid day (UTC)
  std::string file;

  bool matches(const std::string& case_id, const std::string& device) const;
  bool expired(const std::string& today) const { return today > expires; }  // ISO dates order as text
};

// The waivers of one file. Errors: waiver.*.
Result<std::vector<Waiver>> parse_waivers(std::string_view text, const std::string& file);
// All waivers of a folder (empty: $CONCORD_SUITES/waivers, else the tree's; a missing folder has none). Errors: waiver.*.
Result<std::vector<Waiver>> load_waivers(const std::string& folder = {});

// What a decision becomes under the waivers: FAIL -> WAIVED(id); PASS under a matching valid waiver -> XPASS; a matching expired waiver leaves the status
// and adds to the reason, and is red by itself even where the case passes.
struct Waived {
  Decision decision;
  std::string waiver;  // id of the one that matched; empty: none
  bool expired = false;
};
Waived apply_waivers(const std::vector<Waiver>& waivers, const std::string& case_id, const std::string& device, const Evidence& evidence,
                     Decision decision, const std::string& today);

}  // namespace concord::conformance
