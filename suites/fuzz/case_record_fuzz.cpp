// Journals of operator cases: any bytes must give records or a named error; what was read must write back to the same line, and every record must be decidable.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "conformance/run/session.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  namespace conformance = concord::conformance;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto journal = conformance::parse_case_journal(text, "fuzz");
  if (!journal) {
    if (journal.error().code.empty()) std::abort();
    return 0;
  }
  for (const conformance::CaseRecord& record : journal->records) {
    const std::string line = record.to_line();
    const auto again = conformance::CaseRecord::from_line(line, "fuzz", 1);
    if (!again || again->to_line() != line) std::abort();
    const auto spec = conformance::CaseSpec::parse(record.id);
    if (!spec || conformance::decide(*spec, record.evidence).check.empty()) std::abort();
  }
  return 0;
}
