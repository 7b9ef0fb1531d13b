// Random numbers for inputs: Philox blocks (base/rng.hpp) turned into uniform and normal numbers by IEEE additions,
// multiplications, divisions and square roots only, so that no mathematical library can change a bit. Internal.
#pragma once
#include <cstdint>
#include <span>
#include <string_view>

namespace concord::conformance {

// One sequence of numbers; number i comes from word i % 4 of block i / 4, whatever was drawn before.
class Stream {
 public:
  // `tensor` names what is drawn for, so that no two tensors of a case share numbers.
  Stream(std::uint64_t seed, std::string_view tensor);
  std::uint32_t bits(std::uint64_t index) const;
  std::uint64_t below(std::uint64_t index, std::uint64_t limit) const {
    return bits(index) * limit >> 32;
  }  // limit < 2^32
  // Numbers first .. first + out.size(); `first` is a multiple of 4.
  void uniform(std::uint64_t first, std::span<double> out) const;   // in (-1, 1), never 0
  void gaussian(std::uint64_t first, std::span<double> out) const;  // Box and Muller 1958; |v| is below 6.8

 private:
  std::uint64_t seed_, stream_;
};

// Of v in (0, 1). The relative error is below 2^-30, also near 1.
double logarithm(double v);

struct Point {
  double cos, sin;
};
// The point of the unit circle at (k + 1/2) / 2^32 turns; error below 3e-8.
Point on_circle(std::uint32_t k);

}  // namespace concord::conformance
