// TOPLOC (arXiv 2501.16007): the largest |x| of a chunk as a polynomial over GF(65497), evaluated at the verifier's own
// largest. As the public library's C++ path does it; docs/metrics.md lists where its Python path differs.
#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <utility>

#include "compare/compare.hpp"

namespace concord {
namespace {

constexpr std::uint32_t kPrime = 65497;
constexpr std::uint16_t kExponent = 0x7f80, kMantissa = 0x007f, kAbsolute = 0x7fff;

std::vector<std::uint16_t> to_bf16(DType dtype, std::span<const std::byte> bytes) {
  std::vector<std::uint16_t> out(bytes.size() * 8 / dtype_bits(dtype));
  if (out.empty()) return out;
  convert_floats(dtype, bytes.data(), DType::kBF16, reinterpret_cast<std::byte*>(out.data()), out.size());
  return out;
}

struct Entry {
  std::uint16_t magnitude;  // orders as |x|; NaN (above 0x7f80) comes first, all NaN alike
  std::uint32_t index;
};
bool larger(const Entry& x, const Entry& y) {
  const std::uint16_t nan = kExponent + 1;
  return std::min(x.magnitude, nan) > std::min(y.magnitude, nan);
}

// Indices of the k largest |x|. Which of several equal values at the border are kept is decided by the selection
// algorithm: the same calls as torch.topk makes on a CPU, so that the library's proofs are reproduced byte for byte
// (the order within the k does not matter to a proof).
std::vector<std::uint32_t> top_indices(std::span<const std::uint16_t> values, std::size_t k) {
  std::vector<Entry> queue(values.size());
  for (std::uint32_t i = 0; i < queue.size(); ++i) queue[i] = {static_cast<std::uint16_t>(values[i] & kAbsolute), i};
  const auto middle = queue.begin() + static_cast<std::ptrdiff_t>(k);
  if (k * 64 <= queue.size())
    std::partial_sort(queue.begin(), middle, queue.end(), larger);
  else if (k > 0)
    std::nth_element(queue.begin(), middle - 1, queue.end(), larger);
  std::vector<std::uint32_t> out(k);
  for (std::size_t i = 0; i < k; ++i) out[i] = queue[i].index;
  return out;
}

// The largest modulus, from the prime downwards, under which the indices stay distinct; 0 where there is none.
std::uint32_t injective_modulus(std::span<const std::uint32_t> indices) {
  std::vector<std::uint32_t> seen(kPrime, 0);  // seen[r] == m: residue r was met under modulus m
  for (std::uint32_t m = kPrime; m > 0; --m) {
    const bool distinct = std::all_of(indices.begin(), indices.end(),
                                      [&](std::uint32_t i) { return std::exchange(seen[i % m], m) != m; });
    if (distinct) return m;
  }
  return 0;
}

std::uint32_t add(std::uint32_t a, std::uint32_t b) { return (a + b) % kPrime; }
std::uint32_t sub(std::uint32_t a, std::uint32_t b) { return (a + kPrime - b) % kPrime; }
std::uint32_t mul(std::uint32_t a, std::uint32_t b) {
  return static_cast<std::uint32_t>(std::uint64_t{a} * b % kPrime);
}
std::uint32_t inverse(std::uint32_t a) {  // a^(p-2), Fermat
  std::uint32_t result = 1;
  for (std::uint32_t e = kPrime - 2; e > 0; e >>= 1, a = mul(a, a))
    if (e & 1) result = mul(result, a);
  return result;
}

// Coefficients, in ascending degree, of the polynomial through (x, y): Newton's divided differences, then expansion.
// All x distinct below the prime.
std::vector<std::uint32_t> interpolate(const std::vector<std::uint32_t>& x, std::vector<std::uint32_t> y) {
  const std::size_t n = x.size();
  for (std::size_t k = 1; k < n; ++k)
    for (std::size_t i = n - 1; i >= k; --i) y[i] = mul(sub(y[i], y[i - 1]), inverse(sub(x[i], x[i - k])));
  std::vector<std::uint32_t> coefficients(n, 0);
  for (std::size_t i = n; i-- > 0;) {  // Horner in the Newton basis: c = c * (X - x_i) + y_i
    for (std::size_t j = n - 1; j > 0; --j) coefficients[j] = sub(coefficients[j - 1], mul(coefficients[j], x[i]));
    coefficients[0] = add(sub(0, mul(coefficients[0], x[i])), y[i]);
  }
  return coefficients;
}

std::vector<std::byte> encode(std::uint32_t modulus, const std::vector<std::uint32_t>& coefficients) {
  std::vector<std::byte> out(2 + 2 * coefficients.size());
  const auto put = [&](std::size_t i, std::uint32_t v) {
    out[2 * i] = std::byte(v >> 8 & 255);
    out[2 * i + 1] = std::byte(v & 255);
  };
  put(0, modulus);
  for (std::size_t i = 0; i < coefficients.size(); ++i) put(i + 1, coefficients[i]);
  return out;
}
std::uint32_t word(std::span<const std::byte> proof, std::size_t i) {
  return std::to_integer<std::uint32_t>(proof[2 * i]) << 8 | std::to_integer<std::uint32_t>(proof[2 * i + 1]);
}
std::uint16_t evaluate(std::span<const std::byte> proof, std::uint32_t index) {
  const std::uint32_t x = index % word(proof, 0);
  std::uint32_t y = 0;
  for (std::size_t i = proof.size() / 2; i-- > 1;) y = add(mul(y, x % kPrime), word(proof, i) % kPrime);
  return static_cast<std::uint16_t>(y);
}

void summarise(std::vector<int> errors, ToplocStats& out) {
  if (errors.empty()) {
    out.mantissa_mean = out.mantissa_median = std::numeric_limits<double>::infinity();
    return;
  }
  double sum = 0;
  for (int e : errors) sum += e;
  out.mantissa_mean = sum / static_cast<double>(errors.size());
  std::ranges::sort(errors);
  out.mantissa_median = errors[errors.size() / 2];
}

}  // namespace

std::vector<std::byte> toploc_proof(DType dtype, std::span<const std::byte> chunk, std::size_t topk) {
  const auto values = to_bf16(dtype, chunk);
  auto x = top_indices(values, std::min(topk, values.size()));
  const std::uint32_t modulus = injective_modulus(x);
  std::vector<std::uint32_t> y;
  // Only negative NaN have bits of the prime or more; they wrap, as in the library.
  for (std::uint32_t i : x) y.push_back(values[i] % kPrime);
  if (modulus == 0 || x.empty()) return encode(0, std::vector<std::uint32_t>(x.size(), 0));
  for (std::uint32_t& i : x) i %= modulus;
  return encode(modulus, interpolate(x, std::move(y)));
}

ToplocStats toploc_verify(std::span<const std::byte> proof, DType dtype, std::span<const std::byte> verifier) {
  const auto values = to_bf16(dtype, verifier);
  const std::size_t topk = proof.size() < 4 ? 0 : std::min(proof.size() / 2 - 1, values.size());
  ToplocStats out;
  out.topk = topk;
  const bool null_proof = topk == 0 || word(proof, 0) == 0;
  std::vector<int> errors;
  for (std::uint32_t i : top_indices(values, topk)) {
    const std::uint16_t claimed = null_proof ? 0 : evaluate(proof, i), own = values[i];
    if (null_proof || (claimed & kExponent) != (own & kExponent))
      ++out.exponent_mismatches;
    else
      errors.push_back(std::abs((claimed & kMantissa) - (own & kMantissa)));
  }
  summarise(std::move(errors), out);
  return out;
}

ToplocStats toploc_stats(DType dtype, std::span<const std::byte> prover, std::span<const std::byte> verifier,
                         std::size_t topk) {
  return toploc_verify(toploc_proof(dtype, prover, topk), dtype, verifier);
}

}  // namespace concord
