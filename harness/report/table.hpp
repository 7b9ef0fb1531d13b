// Tables of text, and the lines about a machine that every report has.
#pragma once
#include <string>
#include <vector>

#include "base/json.hpp"

namespace concord {

using Table = std::vector<std::vector<std::string>>;  // the first row is the head

std::string aligned(const Table& table);   // columns padded for a terminal
std::string markdown(const Table& table);  // cells must not hold a bar or a line break
// Processor, cores, program, compiler, date of a provenance() block.
std::string machine_text(const OrderedJson& provenance);
// &, <, >, quotes as entities; control characters that XML cannot hold as \xNN.
std::string xml_escaped(std::string_view text);

}  // namespace concord
