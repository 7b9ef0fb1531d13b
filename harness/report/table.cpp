#include "report/table.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace concord {

namespace {
std::size_t display_width(const std::string& s) {  // UTF-8 code points; enough for the text used here
  return static_cast<std::size_t>(std::count_if(s.begin(), s.end(), [](char c) { return (c & 0xC0) != 0x80; }));
}
}  // namespace

std::string aligned(const Table& table) {
  std::vector<std::size_t> width;
  for (const auto& row : table)
    for (std::size_t i = 0; i < row.size(); ++i) {
      if (i >= width.size()) width.push_back(0);
      width[i] = std::max(width[i], display_width(row[i]));
    }
  std::string out;
  for (const auto& row : table) {
    for (std::size_t i = 0; i < row.size(); ++i) {
      out += row[i];
      if (i + 1 < row.size()) out += std::string(width[i] - display_width(row[i]) + 2, ' ');
    }
    out += "\n";
  }
  return out;
}

std::string markdown(const Table& table) {
  std::string out;
  for (std::size_t r = 0; r < table.size(); ++r) {
    out += "|";
    for (const std::string& cell : table[r]) out += " " + cell + " |";
    out += "\n";
    if (r == 0) {
      out += "|";
      for (std::size_t i = 0; i < table[r].size(); ++i) out += "---|";
      out += "\n";
    }
  }
  return out;
}

std::string machine_text(const OrderedJson& p) {
  const auto at = [&](const char* group, const char* key) {
    const auto it = p.find(group);
    if (it == p.end() || !it->contains(key)) return std::string("unknown");
    return (*it)[key].is_string() ? (*it)[key].get<std::string>() : (*it)[key].dump();
  };
  return fmt::format("{}, {} cores; Concord {} ({}), {}, {} build; {}", at("machine", "processor"),
                     at("machine", "cores"), at("program", "version"), at("program", "commit"),
                     at("program", "compiler"), at("program", "build"),
                     p.contains("date") ? p["date"].get<std::string>() : "unknown date");
}

std::string xml_escaped(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '&')
      out += "&amp;";
    else if (c == '<')
      out += "&lt;";
    else if (c == '>')
      out += "&gt;";
    else if (c == '"')
      out += "&quot;";
    else if (static_cast<unsigned char>(c) < 0x20 && c != '\n' && c != '\t')
      out += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
    else
      out += c;
  }
  return out;
}

}  // namespace concord
