// Journals of records: any bytes must give records or a named error, and what was read must write back to the same line.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "experiment/record.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto journal = concord::parse_journal(text, "fuzz");
  if (!journal) {
    if (journal.error().code.empty()) std::abort();
    return 0;
  }
  for (const concord::Record& record : journal->records) {
    const auto again = concord::Record::from_line(record.to_line(), "fuzz", 1);
    if (!again || again->to_line() != record.to_line()) std::abort();
  }
  return 0;
}
