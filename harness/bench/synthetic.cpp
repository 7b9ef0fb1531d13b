#include "bench/synthetic.hpp"

#include <fmt/format.h>
#include <stdlib.h>
#include <tbb/parallel_for.h>

#include <cmath>
#include <numbers>
#include <numeric>

#include "base/rng.hpp"
#include "capture/capture.hpp"

namespace concord::bench {
namespace fs = std::filesystem;

Result<TemporaryFolder> TemporaryFolder::create() {
  std::error_code error;
  const fs::path parent = fs::temp_directory_path(error);
  std::string name = ((error ? fs::path("/tmp") : parent) / "concord-bench-XXXXXX").string();
  if (!::mkdtemp(name.data()))
    return fail(ErrorKind::kIo, "bench.temporary_folder", "cannot be created; name another place with TMPDIR", name);
  return TemporaryFolder(name);
}

TemporaryFolder::~TemporaryFolder() {
  std::error_code ignored;
  if (!path_.empty()) fs::remove_all(path_, ignored);
}

std::int64_t SyntheticSpec::positions() const { return (elements + unit() - 1) / unit(); }

std::array<float, 4> gaussian4(std::uint64_t seed, std::uint32_t stream, std::uint64_t index) {
  const auto r = philox4x32({static_cast<std::uint32_t>(index), static_cast<std::uint32_t>(index >> 32), stream, 0},
                            {static_cast<std::uint32_t>(seed), static_cast<std::uint32_t>(seed >> 32)});
  std::array<float, 4> out;
  for (std::size_t i = 0; i < 2; ++i) {
    const double u = (static_cast<double>(r[2 * i]) + 0.5) * 0x1p-32, v = static_cast<double>(r[2 * i + 1]) * 0x1p-32;
    const double radius = std::sqrt(-2 * std::log(u)), angle = 2 * std::numbers::pi * v;
    out[2 * i] = static_cast<float>(radius * std::cos(angle));
    out[2 * i + 1] = static_cast<float>(radius * std::sin(angle));
  }
  return out;
}

namespace {

CaptureHeader make_header(const SyntheticSpec& spec, const char* role) {
  CaptureHeader h;
  h.workload_id = "synthetic";
  h.workload_digest = sha256_hex(fmt::format("concord.bench/1|{}", spec.seed));
  h.model = "synthetic";
  h.weights_digest = h.source_digest = h.nonce = h.workload_digest;
  h.role = role;
  h.configuration = {{"device", "synthetic"}};
  h.provenance = OrderedJson::object();
  h.hidden = spec.hidden;
  h.dtype = spec.dtype;
  h.model_layers = 8 * kSyntheticLayers;
  for (std::int64_t i = 1; i <= kSyntheticLayers; ++i) h.layers.push_back(8 * i);
  h.positions.resize(static_cast<std::size_t>(spec.positions()));
  std::iota(h.positions.begin(), h.positions.end(), 0);
  h.prompt_tokens = spec.positions();
  h.tokens.assign(h.positions.size() + 1, 0);  // one generated token, never fed back
  return h;
}

struct Rows {
  std::vector<std::byte> a, b;
};

Rows make_rows(const SyntheticSpec& spec, std::int64_t first, std::int64_t count) {
  const auto n = static_cast<std::size_t>(count * spec.hidden), width = std::size_t{dtype_bits(spec.dtype)} / 8;
  Rows rows{std::vector<std::byte>(n * width), std::vector<std::byte>(n * width)};
  const std::uint64_t start = static_cast<std::uint64_t>(first * spec.hidden) / 4;
  tbb::parallel_for(std::size_t{0}, n / 4, [&](std::size_t i) {
    const auto value = gaussian4(spec.seed, 0, start + i), noise = gaussian4(spec.seed, 1, start + i);
    std::array<float, 4> changed;
    for (std::size_t k = 0; k < 4; ++k) changed[k] = value[k] * (1 + static_cast<float>(spec.noise) * noise[k]);
    convert_floats(DType::kF32, reinterpret_cast<const std::byte*>(value.data()), spec.dtype,
                   rows.b.data() + 4 * i * width, 4);
    convert_floats(DType::kF32, reinterpret_cast<const std::byte*>(changed.data()), spec.dtype,
                   rows.a.data() + 4 * i * width, 4);
  });
  return rows;
}

}  // namespace

Status write_synthetic(const SyntheticSpec& spec, const fs::path& folder) {
  CONCORD_TRY(CaptureWriter subject, CaptureWriter::create(folder / "subject", make_header(spec, "prover")));
  CONCORD_TRY(CaptureWriter reference, CaptureWriter::create(folder / "reference", make_header(spec, "verifier")));
  const std::size_t row = static_cast<std::size_t>(spec.hidden) * dtype_bits(spec.dtype) / 8;
  constexpr std::int64_t kBatch = 64;  // rows made at once: bounds the memory
  const std::int64_t positions = spec.positions();
  for (std::int64_t layer = 0; layer < kSyntheticLayers; ++layer)
    for (std::int64_t p = 0; p < positions; p += kBatch) {
      const std::int64_t count = std::min(kBatch, positions - p);
      const Rows rows = make_rows(spec, layer * positions + p, count);
      for (std::int64_t i = 0; i < count; ++i) {
        const auto at = static_cast<std::size_t>(i) * row;
        CONCORD_CHECK(
            subject.put(8 * (layer + 1), static_cast<std::size_t>(p + i), std::span(rows.a).subspan(at, row)));
        CONCORD_CHECK(
            reference.put(8 * (layer + 1), static_cast<std::size_t>(p + i), std::span(rows.b).subspan(at, row)));
      }
    }
  const std::vector<std::int32_t> tokens(static_cast<std::size_t>(positions) + 1, 0);
  CONCORD_TRY([[maybe_unused]] const Sha256 a, subject.finish(tokens, OrderedJson::object()));
  CONCORD_TRY([[maybe_unused]] const Sha256 b, reference.finish(tokens, OrderedJson::object()));
  return {};
}

}  // namespace concord::bench
