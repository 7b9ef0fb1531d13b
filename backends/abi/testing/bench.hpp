// Support for tests of devices behind the ABI: operands from numbers, numbers from results, and the same call on the
// reference device.
#pragma once
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "base/dtype.hpp"
#include "device/device.hpp"

namespace concord::testing {

using Values = std::vector<double>;
using Dims = std::vector<std::int64_t>;

// Values in [-1, 1) times `scale`, a pure function of (seed, index).
Values noise(std::uint64_t seed, std::size_t n, double scale = 1.0);
// Integers in [-limit, limit].
Values integers(std::uint64_t seed, std::size_t n, int limit);
// Each value rounded once to dtype.
Values rounded(DType dtype, Values v);

// The process-wide plug-ins, and the device under test by $CONCORD_TEST_DEVICE.
const Backends& backends();
std::string device_id();
std::vector<DType> activation_dtypes();  // what the device under test takes

// A device with the buffers and weights of one call.
class Bench {
 public:
  explicit Bench(Device& device) : device_(device) {}
  concord_tensor put(DType dtype, const Dims& dims, const Values& values);
  concord_tensor put_i32(const Dims& dims, const std::vector<std::int32_t>& values);
  concord_tensor room(DType dtype, const Dims& dims) { return put(dtype, dims, Values(count(dims), 0.0)); }
  concord_weight* weight(const concord_weight_desc& desc);
  // With what the device finds out after run() has returned.
  Status run(const concord_call& call) {
    const Status s = device_.run(call);
    return s ? device_.synchronize() : s;
  }
  Values get(const concord_tensor& t) const;
  std::vector<std::byte> bits(const concord_tensor& t) const;
  Device& device() { return device_; }
  static std::size_t count(const Dims& dims);

 private:
  concord_tensor tensor(std::uint32_t dtype, const Dims& dims, std::span<const std::byte> bytes);
  Device& device_;
  std::vector<Buffer> buffers_;
  std::vector<Weight> weights_;
};

// A weight in host memory in one of the ABI's forms, with the exact values it stands for.
struct HostWeight {
  concord_weight_desc desc{};
  std::vector<std::byte> data, scales;
  std::vector<std::uint8_t> zeros;
  Values values;  // [rows, cols], exact
};
struct WeightForm {
  const char* name;
  std::uint32_t dtype, group;
  bool zeros;
};
extern const std::vector<WeightForm> kWeightForms;
// `integers`: values that are small integers (scales 1), for tests with threshold 0.
HostWeight make_weight(const WeightForm& form, std::int64_t rows, std::int64_t cols, DType activation,
                       std::uint64_t seed, bool integers = false);

// Devices opened once per process. Tests that need other thread counts open their own.
Device& subject();
Device& reference();

// Other things than tests that a test program can be asked for, by its first argument.
std::map<std::string, std::function<int()>>& modes();

// --- error bounds (Higham, Accuracy and Stability of Numerical Algorithms, 2nd edition, section 3.1)
// ----------------------------
inline constexpr double kU = 0x1p-24;  // unit roundoff of float32
inline double gamma(double k) { return k * kU / (1 - k * kU); }
// |error| allowed by rounding a value of size |y| + err once to the storage dtype, on top of the float32 error `err`.
double stored(DType dtype, double y, double err);

// Element by element: |got - want| <= bound. Non-finite values must agree in kind. Reports the worst ratio and its
// index.
void expect_within(const Values& got, const Values& want, const Values& bound, const std::string& what);
void expect_equal(const Values& got, const Values& want, const std::string& what);

}  // namespace concord::testing
