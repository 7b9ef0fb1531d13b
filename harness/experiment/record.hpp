// Result records: one JSON line per trial and verifier, schema "concord.record/1" (docs/records.md). A record holds the raw numbers, so that every verdict
// can be looked at again without the device.
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "base/case_status.hpp"
#include "base/error.hpp"
#include "base/journal.hpp"
#include "base/json.hpp"

namespace concord {

inline constexpr const char* kRecordSchema = "concord.record/1";

struct TokenResult {
  std::int64_t tokens = 0, within = 0, equal = 0;  // within: margin <= limit; equal: the verifier's own choice
  double margin_max = 0, margin_mean = 0;          // infinite margins make margin_max infinite; the mean is over finite ones
  std::int64_t rank_max = 0;
  bool accepted = false;
};

struct Record {
  std::string id;          // canonical case id, the key for resuming and for history
  std::string experiment;
  CaseStatus status = CaseStatus::kNotRun;
  std::string reason;      // why it is not PASS; the deciding rule where it is
  OrderedJson body;        // everything else, see docs/records.md

  std::string to_line() const;
  static Result<Record> from_line(std::string_view line, const std::string& file, std::size_t line_number);
};

using Journal = JournalOf<Record>;
Result<Journal> read_journal(const std::string& file);
Result<Journal> parse_journal(std::string_view text, const std::string& file);

OrderedJson to_json(const TokenResult& tokens);

}  // namespace concord
