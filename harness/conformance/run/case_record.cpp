// Records of operator cases and their journal (docs/records.md).
#include <fmt/format.h>

#include <array>
#include <set>

#include "conformance/run/session.hpp"

namespace concord::conformance {
namespace {

const std::set<std::string> kOwn = {"schema", "id",     "device", "family",         "status",
                                    "check",  "reason", "waiver", "waiver_expired", "evidence"};

Result<CaseRecord> record_of(const Json& json, const std::string& file) {
  CONCORD_TRY(const JsonFields f, JsonFields::from(json, file, "record"));
  CONCORD_CHECK(f.schema(kCaseSchema));
  CaseRecord r;
  const std::pair<const char*, std::string*> texts[] = {{"id", &r.id},         {"device", &r.device},
                                                        {"family", &r.family}, {"check", &r.check},
                                                        {"reason", &r.reason}, {"waiver", &r.waiver}};
  for (const auto& [key, target] : texts) {
    CONCORD_TRY(*target, f.string(key));
  }
  CONCORD_TRY(const CaseSpec spec, CaseSpec::parse(r.id));
  CONCORD_TRY(const std::string status, f.string("status"));
  CONCORD_TRY(r.status, status_from_name(status));
  if (!f.has("waiver_expired")) return f.error("missing_field", "field \"waiver_expired\" is missing");
  CONCORD_TRY(r.waiver_expired, f.boolean_or("waiver_expired", false));
  CONCORD_TRY(const JsonFields evidence, f.object("evidence"));
  CONCORD_TRY(r.evidence, evidence_from_json(evidence));
  r.body = OrderedJson::object();
  for (const auto& [key, value] : json.items())
    if (!kOwn.contains(key)) r.body[key] = value;
  return r;
}

}  // namespace

std::string CaseRecord::to_line() const {
  OrderedJson j{{"schema", kCaseSchema},
                {"id", id},
                {"device", device},
                {"family", family},
                {"status", status_name(status)},
                {"check", check},
                {"reason", reason},
                {"waiver", waiver},
                {"waiver_expired", waiver_expired},
                {"evidence", to_json(evidence)}};
  for (const auto& [key, value] : body.items()) j[key] = value;
  return j.dump(-1, ' ', false, OrderedJson::error_handler_t::replace);
}

Result<CaseRecord> CaseRecord::from_line(std::string_view line, const std::string& file, std::size_t number) {
  const auto json = parse_json(line, file, "record", {.max_depth = 16, .max_values = 200'000});
  Result<CaseRecord> record = json ? record_of(*json, file) : std::unexpected(json.error());
  if (!record) {
    record.error().message = fmt::format("line {}: {}", number, record.error().message);
    record.error().file = file;
  }
  return record;
}

Result<CaseJournal> parse_case_journal(std::string_view text, const std::string& file) { return parse_journal_of<CaseRecord>(text, file); }

Result<CaseJournal> read_case_journal(const std::string& file) { return read_journal_of<CaseRecord>(file); }

}  // namespace concord::conformance
