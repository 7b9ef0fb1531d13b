#include "bench.hpp"

#include <fmt/format.h>

#include <cstdlib>
#include <cstring>

namespace concord::testing {
namespace {

std::uint64_t mix(std::uint64_t z) {  // splitmix64 (Steele, Lea and Flood 2014)
  z += 0x9e3779b97f4a7c15u;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

std::vector<std::byte> encode(DType dtype, const Values& values) {
  std::vector<std::byte> bytes(values.size() * dtype_bits(dtype) / 8);
  for (std::size_t i = 0; i < values.size(); ++i)
    if (dtype == DType::kI8)
      bytes[i] = static_cast<std::byte>(static_cast<std::int8_t>(values[i]));
    else
      store_from_f64(dtype, bytes.data(), i, values[i]);
  return bytes;
}

DType from_abi(std::uint32_t dtype) {
  switch (dtype) {
    case CONCORD_F16:
      return DType::kF16;
    case CONCORD_BF16:
      return DType::kBF16;
    case CONCORD_F64:
      return DType::kF64;
    case CONCORD_I32:
      return DType::kI32;
    case CONCORD_I8:
      return DType::kI8;
    default:
      return DType::kF32;
  }
}

}  // namespace

Values noise(std::uint64_t seed, std::size_t n, double scale) {
  Values v(n);
  for (std::size_t i = 0; i < n; ++i)
    v[i] = (static_cast<double>(mix(seed * 1000003 + i) >> 11) * 0x1p-52 - 1.0) * scale;
  return v;
}

Values integers(std::uint64_t seed, std::size_t n, int limit) {
  Values v(n);
  const auto width = static_cast<std::uint64_t>(2 * limit + 1);
  for (std::size_t i = 0; i < n; ++i) v[i] = static_cast<double>(mix(seed * 1000003 + i) % width) - limit;
  return v;
}

Values rounded(DType dtype, Values v) {
  const std::vector<std::byte> bytes = encode(dtype, v);
  for (std::size_t i = 0; i < v.size(); ++i) v[i] = load_as_f64(dtype, bytes.data(), i);
  return v;
}

const Backends& backends() {
  static const Backends found = Backends::discover();
  return found;
}

std::string device_id() {
  const char* id = std::getenv("CONCORD_TEST_DEVICE");
  return id ? id : "cpu";
}

std::vector<DType> activation_dtypes() {
  if (device_id() == "cpu:bf16") return {DType::kBF16};
  return {DType::kF32, DType::kF16, DType::kBF16};
}

namespace {
Device opened(const std::string& id) {
  auto device = backends().open(id);
  if (!device) {
    std::fprintf(stderr, "%s\n", device.error().to_string().c_str());
    std::abort();
  }
  return std::move(*device);
}
}  // namespace

Device& subject() {
  static Device device = opened(device_id());
  return device;
}
Device& reference() {
  static Device device = opened("reference");
  return device;
}

std::map<std::string, std::function<int()>>& modes() {
  static std::map<std::string, std::function<int()>> all;
  return all;
}

std::size_t Bench::count(const Dims& dims) {
  std::size_t n = 1;
  for (std::int64_t d : dims) n *= static_cast<std::size_t>(d);
  return n;
}

concord_tensor Bench::tensor(std::uint32_t dtype, const Dims& dims, std::span<const std::byte> bytes) {
  auto buffer = device_.allocate(bytes.size());
  EXPECT_TRUE(buffer.has_value());
  EXPECT_TRUE(device_.upload(*buffer, 0, bytes).has_value());
  buffers_.push_back(std::move(*buffer));
  concord_tensor t{};
  t.struct_size = sizeof t, t.dtype = dtype, t.rank = static_cast<std::uint32_t>(dims.size());
  for (std::size_t i = 0; i < dims.size(); ++i) t.dims[i] = dims[i];
  t.buffer = buffers_.back().get();
  return t;
}

concord_tensor Bench::put(DType dtype, const Dims& dims, const Values& values) {
  EXPECT_EQ(count(dims), values.size());
  return tensor(to_abi(dtype), dims, encode(dtype, values));
}
concord_tensor Bench::put_i32(const Dims& dims, const std::vector<std::int32_t>& values) {
  return tensor(CONCORD_I32, dims, std::as_bytes(std::span(values)));
}
concord_weight* Bench::weight(const concord_weight_desc& desc) {
  auto w = device_.create_weight(desc);
  EXPECT_TRUE(w.has_value()) << (w ? "" : w.error().to_string());
  if (!w) return nullptr;
  weights_.push_back(std::move(*w));
  return weights_.back().get();
}

std::vector<std::byte> Bench::bits(const concord_tensor& t) const {
  Dims dims(t.dims, t.dims + t.rank);
  std::vector<std::byte> bytes(count(dims) * dtype_bits(from_abi(t.dtype)) / 8);
  for (const Buffer& b : buffers_)
    if (b.get() == t.buffer) {
      EXPECT_TRUE(device_.download(b, t.byte_offset, bytes).has_value());
    }
  return bytes;
}

Values Bench::get(const concord_tensor& t) const {
  const std::vector<std::byte> bytes = bits(t);
  const DType dtype = from_abi(t.dtype);
  Values v(bytes.size() * 8 / dtype_bits(dtype));
  for (std::size_t i = 0; i < v.size(); ++i) {
    if (dtype == DType::kI32) {
      std::int32_t x;
      std::memcpy(&x, bytes.data() + i * 4, 4);
      v[i] = x;
    } else if (dtype == DType::kI8) {
      v[i] = static_cast<std::int8_t>(std::to_integer<std::uint8_t>(bytes[i]));
    } else {
      v[i] = load_as_f64(dtype, bytes.data(), i);
    }
  }
  return v;
}

const std::vector<WeightForm> kWeightForms = {
    {"F32", CONCORD_F32, 0, false},     {"F16", CONCORD_F16, 0, false},          {"BF16", CONCORD_BF16, 0, false},
    {"I8", CONCORD_I8, 0, false},       {"U4/32", CONCORD_U4, 32, false},        {"U4/32 zeros", CONCORD_U4, 32, true},
    {"U4/128", CONCORD_U4, 128, false}, {"U4/128 zeros", CONCORD_U4, 128, true},
};

namespace {

void fill_float(HostWeight& w, DType dtype, std::size_t n, std::uint64_t seed, bool whole) {
  w.values = rounded(dtype, whole ? integers(seed, n, 4) : noise(seed, n));
  w.data = encode(dtype, w.values);
}

void fill_i8(HostWeight& w, std::size_t rows, std::size_t cols, std::uint64_t seed, bool whole) {
  const Values q = integers(seed, rows * cols, whole ? 4 : 127);
  const Values scale = whole ? Values(rows, 1.0) : rounded(DType::kF32, noise(seed + 1, rows, 0.01));
  w.scales = encode(DType::kF32, scale);
  for (std::size_t i = 0; i < q.size(); ++i) {
    w.data.push_back(static_cast<std::byte>(static_cast<std::int8_t>(q[i])));
    w.values.push_back(q[i] * scale[i / cols]);
  }
}

void fill_u4(HostWeight& w, const WeightForm& f, std::size_t rows, std::size_t cols, std::uint64_t seed, bool whole) {
  const std::size_t groups = (cols + f.group - 1) / f.group, stride = (cols + 1) / 2;
  const Values scale = whole ? Values(rows * groups, 1.0) : rounded(DType::kF16, noise(seed + 1, rows * groups, 0.1));
  w.scales = encode(DType::kF16, scale);
  if (f.zeros)
    for (std::size_t i = 0; i < rows * groups; ++i)
      w.zeros.push_back(static_cast<std::uint8_t>(mix(seed + 2 + i) % 16));
  w.data.assign(rows * stride, std::byte{0});
  for (std::size_t r = 0; r < rows; ++r)
    for (std::size_t c = 0; c < cols; ++c) {
      const auto nibble = static_cast<unsigned>(mix(seed * 31 + r * cols + c) % 16);
      w.data[r * stride + c / 2] |= static_cast<std::byte>(c % 2 ? nibble << 4 : nibble);
      const std::size_t g = r * groups + c / f.group;
      w.values.push_back((static_cast<double>(nibble) - (f.zeros ? w.zeros[g] : 8)) * scale[g]);
    }
}

}  // namespace

HostWeight make_weight(const WeightForm& form, std::int64_t rows, std::int64_t cols, DType activation,
                       std::uint64_t seed, bool whole) {
  HostWeight w;
  const auto r = static_cast<std::size_t>(rows), c = static_cast<std::size_t>(cols);
  if (form.dtype == CONCORD_I8)
    fill_i8(w, r, c, seed, whole);
  else if (form.dtype == CONCORD_U4)
    fill_u4(w, form, r, c, seed, whole);
  else
    fill_float(w, from_abi(form.dtype), r * c, seed, whole);
  w.desc.struct_size = sizeof w.desc, w.desc.dtype = form.dtype, w.desc.rows = rows, w.desc.cols = cols;
  w.desc.data = w.data.data(), w.desc.scales = w.scales.empty() ? nullptr : w.scales.data();
  w.desc.zeros = w.zeros.empty() ? nullptr : w.zeros.data(), w.desc.group = form.group;
  w.desc.activation_dtype = to_abi(activation);
  return w;
}

double stored(DType dtype, double y, double err) {
  const double size = std::fabs(y) + err;
  switch (dtype) {
    case DType::kF16:
      return err + 0x1p-11 * size + 0x1p-25;  // half an ulp; half the subnormal quantum 2^-24
    case DType::kBF16:
      return err + 0x1p-8 * size + 0x1p-134;  // half an ulp; half the subnormal quantum 2^-133
    default:
      return err + 0x1p-149;  // float32 results are stored as they are; the last subnormal bit
  }
}

void expect_within(const Values& got, const Values& want, const Values& bound, const std::string& what) {
  ASSERT_EQ(got.size(), want.size()) << what;
  ASSERT_EQ(got.size(), bound.size()) << what;
  ASSERT_FALSE(got.empty()) << what;
  double worst = 0;
  std::size_t at = 0;
  for (std::size_t i = 0; i < got.size(); ++i) {
    const double error = std::fabs(got[i] - want[i]);
    const double ratio = got[i] == want[i] ? 0.0 : error / bound[i];
    if (!(ratio <= worst)) worst = std::isnan(ratio) ? INFINITY : ratio, at = i;
  }
  EXPECT_LE(worst, 1.0) << what << ": worst at [" << at << "]: got " << fmt::format("{}", got[at]) << ", want "
                        << fmt::format("{}", want[at]) << ", bound " << bound[at];
}

void expect_equal(const Values& got, const Values& want, const std::string& what) {
  ASSERT_EQ(got.size(), want.size()) << what;
  ASSERT_FALSE(got.empty()) << what;
  std::size_t wrong = 0, first = 0;
  for (std::size_t i = 0; i < got.size(); ++i)
    if (!(got[i] == want[i]) && wrong++ == 0) first = i;
  EXPECT_EQ(wrong, 0u) << what << ": first at [" << first << "]: got " << fmt::format("{}", got[first]) << ", want "
                       << fmt::format("{}", want[first]);
}

}  // namespace concord::testing
