#include "device/plugin_symbols.hpp"

#include <cxxabi.h>
#include <elf.h>

#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <memory>
#include <optional>

namespace concord::plugin_check {
namespace {

constexpr std::uint64_t kLargest = 4ull << 30;  // of a file that is read whole [bytes]

class Bytes {
 public:
  explicit Bytes(std::string content) : content_(std::move(content)) {}
  template <class T>
  std::optional<T> at(std::uint64_t offset) const {
    if (offset > content_.size() || content_.size() - offset < sizeof(T)) return std::nullopt;
    T value;
    std::memcpy(&value, content_.data() + offset, sizeof value);
    return value;
  }
  // The text at `offset` of a string table [begin, begin + size).
  std::optional<std::string> text(std::uint64_t begin, std::uint64_t size, std::uint64_t offset) const {
    if (begin > content_.size() || size > content_.size() - begin || offset >= size) return std::nullopt;
    const char* first = content_.data() + begin + offset;
    const auto* last = static_cast<const char*>(std::memchr(first, 0, size - offset));
    if (!last) return std::nullopt;
    return std::string(first, last);
  }

 private:
  std::string content_;
};

std::unexpected<Error> broken(const std::string& file, const char* what) {
  return fail(ErrorKind::kBadInput, "plugin_check.elf", what, file);
}

Result<Bytes> read_whole(const std::string& file) {
  std::ifstream in(file, std::ios::binary | std::ios::ate);
  const auto size = in.tellg();
  if (!in || size < 0 || static_cast<std::uint64_t>(size) > kLargest)
    return broken(file, "it cannot be read, or has more than 4 GiB");
  std::string content(static_cast<std::size_t>(size), '\0');
  in.seekg(0);
  if (!in.read(content.data(), size)) return broken(file, "it cannot be read");
  return Bytes(std::move(content));
}

void add(const Elf64_Sym& symbol, const std::string& name, DynamicSymbols& found) {
  const unsigned binding = ELF64_ST_BIND(symbol.st_info), visibility = ELF64_ST_VISIBILITY(symbol.st_other);
  if (name.empty() || binding == STB_LOCAL) return;
  if (symbol.st_shndx == SHN_UNDEF) {
    if (binding != STB_WEAK) found.undefined.push_back(name);
  } else if (visibility == STV_DEFAULT || visibility == STV_PROTECTED) {
    found.defined.push_back(name);
  }
}

Result<DynamicSymbols> read_table(const Bytes& bytes, const Elf64_Shdr& table, const Elf64_Shdr& strings,
                                  const std::string& file) {
  DynamicSymbols found;
  for (std::uint64_t i = 1; i < table.sh_size / sizeof(Elf64_Sym); ++i) {
    const auto symbol = bytes.at<Elf64_Sym>(table.sh_offset + i * sizeof(Elf64_Sym));
    if (!symbol) return broken(file, "its dynamic symbol table ends behind the file");
    const auto name = bytes.text(strings.sh_offset, strings.sh_size, symbol->st_name);
    if (!name) return broken(file, "a symbol's name lies outside the string table");
    add(*symbol, *name, found);
  }
  return found;
}

}  // namespace

Result<DynamicSymbols> dynamic_symbols(const std::string& file) {
  CONCORD_TRY(const Bytes bytes, read_whole(file));
  const auto header = bytes.at<Elf64_Ehdr>(0);
  if (!header || std::memcmp(header->e_ident, ELFMAG, SELFMAG) != 0) return broken(file, "it is no ELF file");
  if (header->e_ident[EI_CLASS] != ELFCLASS64 || header->e_ident[EI_DATA] != ELFDATA2LSB || header->e_type != ET_DYN)
    return broken(file, "it is no 64-bit little-endian shared object");
  const auto section = [&](std::uint64_t i) { return bytes.at<Elf64_Shdr>(header->e_shoff + i * sizeof(Elf64_Shdr)); };
  for (std::uint64_t i = 0; i < header->e_shnum; ++i) {
    const auto table = section(i);
    if (!table) return broken(file, "its section headers end behind the file");
    if (table->sh_type != SHT_DYNSYM) continue;
    const auto strings = section(table->sh_link);
    if (!strings) return broken(file, "its dynamic symbols have no names");
    return read_table(bytes, *table, *strings, file);
  }
  return broken(file, "it has no section of dynamic symbols");
}

std::string demangled(const std::string& symbol) {
  int status = -1;
  const std::unique_ptr<char, decltype(&std::free)> name(abi::__cxa_demangle(symbol.c_str(), nullptr, nullptr, &status),
                                                         &std::free);
  return status == 0 && name ? name.get() : symbol;
}

}  // namespace concord::plugin_check
