// A journal: one record a line, complete lines only. A last line without its newline is what a crash left; it is left out, reported in `partial` and no error.
// A record has `static Result<Record> from_line(line, file, line number)` and `to_line()`.
#pragma once
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.hpp"
#include "base/file.hpp"

namespace concord {

template <class Record>
struct JournalOf {
  std::vector<Record> records;
  bool partial = false;
};

template <class Record>
Result<JournalOf<Record>> parse_journal_of(std::string_view text, const std::string& file) {
  JournalOf<Record> journal;
  for (std::size_t begin = 0, number = 1; begin < text.size(); ++number) {
    const std::size_t end = text.find('\n', begin);
    if (end == std::string_view::npos) {
      journal.partial = true;
      break;
    }
    const std::string_view line = text.substr(begin, end - begin);
    begin = end + 1;
    if (line.empty()) continue;
    CONCORD_TRY(Record record, Record::from_line(line, file, number));
    journal.records.push_back(std::move(record));
  }
  return journal;
}

template <class Record>
Result<JournalOf<Record>> read_journal_of(const std::string& file) {
  CONCORD_TRY(const std::string text, read_text(file, 1u << 30));
  return parse_journal_of<Record>(text, file);
}

}  // namespace concord
