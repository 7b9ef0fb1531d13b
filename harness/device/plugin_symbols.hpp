// The dynamic symbols of a shared object, read from the file and not from the loader. Knows 64-bit little-endian ELF.
#pragma once
#include <string>
#include <vector>

#include "base/error.hpp"

namespace concord::plugin_check {

struct DynamicSymbols {
  std::vector<std::string> defined;    // visible to others: default visibility, global, weak or unique
  std::vector<std::string> undefined;  // needed from elsewhere; weak ones, which may stay unresolved, are left out
};
// Errors: plugin_check.elf: no ELF shared object, or section headers that are missing or point outside the file.
Result<DynamicSymbols> dynamic_symbols(const std::string& file);
std::string demangled(const std::string& symbol);

}  // namespace concord::plugin_check
