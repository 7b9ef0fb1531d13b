#include "digest/digest.hpp"

#include <openssl/evp.h>

#include <algorithm>
#include <stdexcept>
#include <utility>

#include "base/text.hpp"

namespace concord {
namespace {

EVP_MD_CTX* context(void* p) { return static_cast<EVP_MD_CTX*>(p); }

// OpenSSL refuses only when memory runs out or the installation has no SHA-256; neither can be handled by a caller.
void require(int ok) {
  if (ok != 1) throw std::runtime_error("OpenSSL could not compute SHA-256");
}

std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

Hasher& length_prefixed(Hasher& hasher, std::string_view text) {
  return hasher.u32(static_cast<std::uint32_t>(text.size())).update(text);
}

}  // namespace

Hasher::Hasher() : context_(EVP_MD_CTX_new()) { require(EVP_DigestInit_ex(context(context_), EVP_sha256(), nullptr)); }

Hasher::Hasher(Hasher&& other) noexcept : context_(std::exchange(other.context_, nullptr)) {}

Hasher& Hasher::operator=(Hasher&& other) noexcept {
  std::swap(context_, other.context_);
  return *this;
}

Hasher::~Hasher() { EVP_MD_CTX_free(context(context_)); }

Hasher& Hasher::update(std::span<const std::byte> data) {
  if (!data.empty()) require(EVP_DigestUpdate(context(context_), data.data(), data.size()));
  return *this;
}

Hasher& Hasher::update(std::string_view text) { return update(bytes_of(text)); }

Hasher& Hasher::u8(std::uint8_t v) {
  const std::byte b{v};
  return update(std::span(&b, 1));
}

Hasher& Hasher::u32(std::uint32_t v) {
  std::array<std::byte, 4> b;
  for (std::size_t i = 0; i < b.size(); ++i) b[i] = static_cast<std::byte>(v >> (8 * i));
  return update(b);
}

Hasher& Hasher::u64(std::uint64_t v) {
  std::array<std::byte, 8> b;
  for (std::size_t i = 0; i < b.size(); ++i) b[i] = static_cast<std::byte>(v >> (8 * i));
  return update(b);
}

Sha256 Hasher::finish() {
  Sha256 digest;
  require(EVP_DigestFinal_ex(context(context_), reinterpret_cast<unsigned char*>(digest.data()), nullptr));
  require(EVP_DigestInit_ex(context(context_), nullptr, nullptr));
  return digest;
}

Sha256 sha256(std::span<const std::byte> data) { return Hasher().update(data).finish(); }

std::string sha256_hex(std::string_view text) { return hex(sha256(bytes_of(text))); }

std::string hex(const Sha256& digest) { return to_hex(digest); }

std::optional<Sha256> sha256_from_hex(std::string_view text) {
  Sha256 digest{};
  if (text.size() != 2 * digest.size()) return std::nullopt;
  const auto bytes = from_hex(text);
  if (!bytes) return std::nullopt;
  std::copy(bytes->begin(), bytes->end(), digest.begin());
  return digest;
}

Sha256 framed_pieces_digest(std::string_view name, std::string_view dtype, std::span<const std::int64_t> shape,
                            std::span<const std::span<const std::byte>> pieces) {
  Hasher hasher;
  hasher.update("wd1").u8(0);
  length_prefixed(hasher, name);
  length_prefixed(hasher, dtype);
  hasher.u32(static_cast<std::uint32_t>(shape.size()));
  for (const std::int64_t dim : shape) hasher.u64(static_cast<std::uint64_t>(dim));
  std::uint64_t bytes = 0;
  for (const auto piece : pieces) bytes += piece.size();
  hasher.u64(bytes);
  for (const auto piece : pieces) hasher.update(piece);
  return hasher.finish();
}

Sha256 framed_tensor_digest(std::string_view name, std::string_view dtype, std::span<const std::int64_t> shape,
                            std::span<const std::byte> data) {
  return framed_pieces_digest(name, dtype, shape, std::span(&data, 1));
}

Sha256 framed_model_digest(std::vector<NamedDigest> tensors) {
  // Byte order: std::string compares as unsigned char through char_traits<char>.
  std::sort(tensors.begin(), tensors.end(), [](const NamedDigest& a, const NamedDigest& b) { return a.name < b.name; });
  Hasher hasher;
  hasher.update("wd1-model").u8(0).u64(tensors.size());
  for (const NamedDigest& tensor : tensors) hasher.update(tensor.digest);
  return hasher.finish();
}

}  // namespace concord
