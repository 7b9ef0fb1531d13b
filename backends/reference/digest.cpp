// The digest of a weight as this device holds it: docs/weight-digest.md, from the bytes that the operators read.
#include <openssl/evp.h>

#include <array>
#include <stdexcept>
#include <string_view>

#include "ops.hpp"

namespace reference {
namespace {

constexpr std::size_t kBlock = 4096, kDigest = 32;
using Bytes = std::vector<std::byte>;

void sha256(const std::byte* bytes, std::size_t count, std::byte* out) {
  if (EVP_Digest(bytes, count, reinterpret_cast<unsigned char*>(out), nullptr, EVP_sha256(), nullptr) != 1)
    throw std::runtime_error("SHA-256 failed");
}

Bytes level(const std::byte* bytes, std::size_t count) {
  const std::size_t blocks = std::max<std::size_t>(1, (count + kBlock - 1) / kBlock);
  Bytes digests(blocks * kDigest);
  tbb::parallel_for(std::size_t{0}, blocks, [&](std::size_t i) {
    sha256(bytes + i * kBlock, std::min(kBlock, count - i * kBlock), digests.data() + i * kDigest);
  });
  return digests;
}

Bytes tree(const std::byte* bytes, std::size_t count) {
  Bytes digests = level(bytes, count);
  while (digests.size() > kDigest) digests = level(digests.data(), digests.size());
  return digests;
}

template <class T>
void append(Bytes& to, T number) {  // little-endian, as this machine is
  const auto* p = reinterpret_cast<const std::byte*>(&number);
  to.insert(to.end(), p, p + sizeof number);
}

}  // namespace

void weight_digest(const concord_abi::StoredWeight& w, std::uint8_t digest[32]) {
  constexpr std::string_view kTag{"concord-weight-tree/1\0", 22};
  Bytes head;
  for (const char c : kTag) head.push_back(static_cast<std::byte>(c));
  append(head, std::uint32_t{w.dtype});
  append(head, std::uint64_t{w.rows}), append(head, std::uint64_t{w.cols});
  append(head, w.dtype == CONCORD_U4 ? std::uint32_t{w.group} : 0u);
  append(head, w.zeros.empty() ? 0u : 1u);
  const auto* zeros = reinterpret_cast<const std::byte*>(w.zeros.data());
  for (const Bytes& part :
       {tree(w.data.data(), w.data.size()), tree(w.scales.data(), w.scales.size()), tree(zeros, w.zeros.size())})
    head.insert(head.end(), part.begin(), part.end());
  sha256(head.data(), head.size(), reinterpret_cast<std::byte*>(digest));
}

}  // namespace reference
