// SHA-256 and the weight digest. Knows bytes and shapes, not files.
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/tensor.hpp"

namespace concord {

using Sha256 = std::array<std::byte, 32>;

// Incremental SHA-256 through OpenSSL (which uses the processor's SHA instructions).
class Hasher {
 public:
  Hasher();
  Hasher(Hasher&&) noexcept;
  Hasher& operator=(Hasher&&) noexcept;
  ~Hasher();
  Hasher& update(std::span<const std::byte> data);
  Hasher& update(std::string_view text);
  Hasher& u8(std::uint8_t v);
  Hasher& u32(std::uint32_t v);  // little-endian
  Hasher& u64(std::uint64_t v);  // little-endian
  Sha256 finish();               // the hasher starts afresh afterwards

 private:
  void* context_;
};

Sha256 sha256(std::span<const std::byte> data);
std::string sha256_hex(std::string_view text);
std::string hex(const Sha256& digest);                         // 64 lowercase digits
std::optional<Sha256> sha256_from_hex(std::string_view text);  // exactly 64 digits, either case

// The `framed` tensor digest: SHA-256("wd1" 00 | u32 length, name | u32 length, dtype token | u32 rank | u64 dims... |
// u64 bytes | data).
Sha256 framed_tensor_digest(std::string_view name, std::string_view dtype, std::span<const std::int64_t> shape,
                            std::span<const std::byte> data);
// The same for data that lies in several pieces.
Sha256 framed_pieces_digest(std::string_view name, std::string_view dtype, std::span<const std::int64_t> shape,
                            std::span<const std::span<const std::byte>> pieces);
struct NamedDigest {
  std::string name;
  Sha256 digest;
};
// The model digest: SHA-256("wd1-model" 00 | u64 n | for names in byte order: tensor digest). Sorts its argument's
// copy.
Sha256 framed_model_digest(std::vector<NamedDigest> tensors);

}  // namespace concord
