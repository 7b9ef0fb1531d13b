// For the tests of this floor: files built byte by byte, so that every way to be wrong can be written down in one line.
#pragma once
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <span>
#include <string>

#include "checkpoint/parse.hpp"

namespace concord::testing {

template <class T>
std::string le(T value) {
  std::string out(sizeof value, '\0');
  std::memcpy(out.data(), &value, sizeof value);
  return out;
}
inline std::span<const std::byte> as_span(const std::string& s) { return std::as_bytes(std::span(s.data(), s.size())); }

// --- safetensors -----------------------------------------------------------------------------------------------------
inline std::string safetensors(const std::string& header, std::size_t data_bytes) {
  return le<std::uint64_t>(header.size()) + header + std::string(data_bytes, '\0');
}
inline std::string entry(const std::string& dtype, const std::string& shape, const std::string& offsets) {
  return R"({"dtype":")" + dtype + R"(","shape":)" + shape + R"(,"data_offsets":)" + offsets + "}";
}

// --- GGUF ------------------------------------------------------------------------------------------------------------
inline std::string str(const std::string& s) { return le<std::uint64_t>(s.size()) + s; }
inline std::string pair(const std::string& key, std::int32_t type, const std::string& value) {
  return str(key) + le(type) + value;
}
inline std::string arch() { return pair("general.architecture", 8, str("llama")); }
inline std::string array(std::int32_t type, std::uint64_t n, const std::string& elements) {
  return le(type) + le(n) + elements;
}
struct GgufTensor {
  std::string name = "t";
  std::vector<std::int64_t> ne = {32};
  std::int32_t type = 0;
  std::uint64_t offset = 0;
};
inline std::string info(const GgufTensor& t) {
  std::string out = str(t.name) + le<std::uint32_t>(static_cast<std::uint32_t>(t.ne.size()));
  for (const std::int64_t n : t.ne) out += le(n);
  return out + le(t.type) + le(t.offset);
}
inline std::string pad(std::string s, std::size_t alignment = 32) {
  s.resize((s.size() + alignment - 1) / alignment * alignment, '\0');
  return s;
}
inline std::string gguf_header(std::uint32_t version, std::int64_t tensors, std::int64_t pairs) {
  return "GGUF" + le(version) + le(tensors) + le(pairs);
}
// general.architecture, further pairs, tensors, padding, zeroed data.
inline std::string gguf(const std::vector<std::string>& pairs, const std::vector<GgufTensor>& tensors,
                        std::size_t data_bytes, std::size_t alignment = 32) {
  std::string out =
      gguf_header(3, static_cast<std::int64_t>(tensors.size()), 1 + static_cast<std::int64_t>(pairs.size())) + arch();
  for (const auto& p : pairs) out += p;
  for (const auto& t : tensors) out += info(t);
  return pad(std::move(out), alignment) + std::string(data_bytes, '\0');
}

// --- folders ---------------------------------------------------------------------------------------------------------
class TempFolder {
 public:
  TempFolder() {
    static std::atomic<int> number{0};
    path_ = std::filesystem::temp_directory_path() /
            ("concord-checkpoint-" + std::to_string(::getpid()) + "-" + std::to_string(number++));
    std::filesystem::create_directories(path_);
  }
  TempFolder(const TempFolder&) = delete;
  TempFolder& operator=(const TempFolder&) = delete;
  ~TempFolder() {
    std::error_code ec;
    std::filesystem::remove_all(path_, ec);
  }
  std::filesystem::path write(const std::string& name, const std::string& content) const {
    std::ofstream(path_ / name, std::ios::binary) << content;
    return path_ / name;
  }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

}  // namespace concord::testing
