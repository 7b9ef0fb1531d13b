// A device that samples and the harness's own sampler choose the same tokens: token for token over seeds, positions and
// temperatures, where nothing is cut off by top_k or top_p.
#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "base/rng.hpp"
#include "device/device.hpp"
#include "model/sampler.hpp"
#include "reference/reference.hpp"

namespace concord {
namespace {

struct Tokens {
  std::vector<float> logits;
  std::vector<std::int32_t> positions;
  std::size_t vocab = 0;
};

// Logits as a model has them: normal, a few large. NaN and infinities of a masked vocabulary are not among what the
// harness samples from.
Tokens tokens(std::uint64_t seed, std::size_t count, std::size_t vocab) {
  Tokens t{std::vector<float>(count * vocab), {}, vocab};
  for (std::size_t i = 0; i < t.logits.size(); ++i) {
    const double radius = std::sqrt(-2 * std::log(uniform_open(seed, 0, i)));
    t.logits[i] =
        static_cast<float>((i % 97 == 5 ? 4 : 1.5) * radius * std::cos(6.283185307179586 * uniform_open(seed, 1, i)));
  }
  for (std::size_t i = 0; i < count; ++i)
    t.positions.push_back(static_cast<std::int32_t>(i == 0 ? INT32_MAX : seed * 37 % 5000 + i));
  return t;
}

std::vector<std::int32_t> sampled(Device& device, const Tokens& t, double temperature, std::uint64_t seed) {
  const auto rows = static_cast<std::int64_t>(t.positions.size());
  const Buffer x = device.allocate(t.logits.size() * 4).value(),
               positions = device.allocate(t.positions.size() * 4).value(),
               index = device.allocate(t.positions.size() * 4).value();
  EXPECT_TRUE(device.upload(x, 0, std::as_bytes(std::span(t.logits))));
  EXPECT_TRUE(device.upload(positions, 0, std::as_bytes(std::span(t.positions))));
  concord_call call = make_call(CONCORD_OP_SAMPLE);
  call.n_in = 2, call.n_out = 1, call.scale = 1 / temperature, call.seed = seed;
  call.in[0] = tensor_of(DType::kF32, {rows, static_cast<std::int64_t>(t.vocab)}, x);
  call.in[1] = tensor_of(DType::kI32, {rows}, positions), call.out[0] = tensor_of(DType::kI32, {rows}, index);
  const Status ran = device.run(call);
  EXPECT_TRUE(ran) << ran.error().message;
  std::vector<std::int32_t> chosen(t.positions.size());
  EXPECT_TRUE(device.synchronize());
  EXPECT_TRUE(device.download(index, 0, std::as_writable_bytes(std::span(chosen))));
  return chosen;
}

TEST(DeviceSampling, ChoosesTheTokensThatTheHostChooses) {
  const Backends backends = Backends::builtin(reference::table());
  Device device = backends.open("reference").value();
  std::size_t greedy = 0, all = 0;
  for (std::uint64_t n = 0; n < 200; ++n) {
    const Tokens t = tokens(n, 4, n % 40 == 0 ? 20011 : 503);
    const double temperature = n % 4 == 0 ? 1 : 0.3 + 0.01 * static_cast<double>(n);
    const std::uint64_t seed = n * 0x9e3779b97f4a7c15u;
    const std::vector<std::int32_t> chosen = sampled(device, t, temperature, seed);
    for (std::size_t i = 0; i < chosen.size(); ++i, ++all) {
      const std::span<const float> logits = std::span(t.logits).subspan(i * t.vocab, t.vocab);
      const SamplerSpec spec{
          .kind = SamplerSpec::Kind::kSample, .temperature = temperature, .top_k = 0, .top_p = 1, .seed = seed};
      EXPECT_EQ(chosen[i], choose_token(spec, logits, t.positions[i]).value()) << n << " " << i;
      greedy += chosen[i] == choose_token({}, logits, t.positions[i]).value();
    }
  }
  EXPECT_LT(greedy, all / 2) << "most draws are not the largest logit, else nothing was shown";
}

}  // namespace
}  // namespace concord
