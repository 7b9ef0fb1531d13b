// Faults of sampling: whose noise it is, how exact it is, and what it is added to.
#include "abi/concord_sample.hpp"
#include "mutant.hpp"

namespace mutant {
namespace {

// --- other arguments, honest work
template <class Edit>
void edit_positions(Changed& c, const Edit& edit) {
  const concord_tensor& t = c.copy_in(1);
  std::vector<double> v = values_of(t);
  for (std::size_t i = 0; i < v.size(); ++i) v[i] = edit(v[i], i);
  put_values(t, v);
}
void other_seed(Changed& c) { c.call.seed += 1; }
void half_a_seed(Changed& c) { c.call.seed &= 0xffffffffu; }
void seed_halves_swapped(Changed& c) { c.call.seed = c.call.seed << 32 | c.call.seed >> 32; }
void no_position(Changed& c) {
  edit_positions(c, [](double, std::size_t) { return 0.0; });
}
void row_for_position(Changed& c) {
  edit_positions(c, [](double, std::size_t row) { return static_cast<double>(row); });
}
void next_position(Changed& c) {
  edit_positions(c, [](double p, std::size_t) { return p == 0x7fffffff ? 0 : p + 1; });
}
void no_temperature(Changed& c) { c.call.scale = 1; }
void inverted_temperature(Changed& c) { c.call.scale = 1 / c.call.scale; }

// --- other scores
struct Candidate {
  double x, scale;
  std::uint64_t seed, id;
  std::int32_t position;
  double noise() const { return concord_abi::gumbel(seed, position, id); }
  double uniform() const {
    return concord_abi::uniform_of(concord_abi::philox_bits(seed, static_cast<std::uint32_t>(position), id));
  }
  double score() const { return x * scale + noise(); }
};
double without_noise(const Candidate& c) { return c.x * c.scale; }
double noise_negated(const Candidate& c) { return c.x * c.scale - c.noise(); }
double noise_scaled(const Candidate& c) { return (c.x + c.noise()) * c.scale; }
double noise_uniform(const Candidate& c) { return c.x * c.scale + c.uniform(); }
double one_logarithm(const Candidate& c) { return c.x * c.scale - std::log(c.uniform()); }
double noise_in_f32(const Candidate& c) {
  const auto u = std::min(static_cast<float>(c.uniform()), 1 - 0x1p-24f);
  return c.x * c.scale + -std::log(-std::log(u));
}
double score_in_f32(const Candidate& c) { return static_cast<float>(c.score()); }
double fewer_bits(const Candidate& c) {
  const std::uint64_t bits = concord_abi::philox_bits(c.seed, static_cast<std::uint32_t>(c.position), c.id);
  return c.x * c.scale - std::log(-std::log((static_cast<double>(bits >> 32) + 0.5) * 0x1p-32));
}
double id_for_position(const Candidate& c) {
  const std::uint64_t bits = concord_abi::philox_bits(c.seed, c.id, static_cast<std::uint32_t>(c.position));
  return c.x * c.scale - std::log(-std::log(concord_abi::uniform_of(bits)));
}
double honest_score(const Candidate& c) { return c.score(); }

// Last: the last of equals wins.
template <double (*Score)(const Candidate&), bool Last = false>
concord_status chosen_by(Job& job) {
  const concord_call& call = job.call;
  const std::size_t n = last_axis(call.in[0]);
  const std::vector<double> x = values_of(call.in[0]), positions = values_of(call.in[1]);
  std::vector<double> index(positions.size());
  job.device.arena.execute([&] {
    reference::for_each(index.size(), [&](std::size_t r) {
      double best = 0;
      for (std::size_t i = 0; i < n; ++i) {
        const double s = Score({x[r * n + i], call.scale, call.seed, i, static_cast<std::int32_t>(positions[r])});
        if (i == 0 || (Last ? !concord_abi::before(best, s) : concord_abi::before(s, best)))
          best = s, index[r] = static_cast<double>(i);
      }
    });
  });
  put_values(job.out(), index);
  return CONCORD_OK;
}

constexpr std::uint32_t kSample = bits({CONCORD_OP_SAMPLE});

constexpr Fault kFaults[] = {
    {"sample-other-seed", "the seed is one larger", kSample, with<other_seed>},
    {"sample-half-seed", "the upper half of the seed is lost", kSample, with<half_a_seed>},
    {"sample-seed-swapped", "the halves of the seed change places", kSample, with<seed_halves_swapped>},
    {"sample-no-position", "every token has the noise of position 0", kSample, with<no_position>},
    {"sample-row-position", "a token's row in the batch counts as its position", kSample, with<row_for_position>},
    {"sample-next-position", "the noise is the next position's", kSample, with<next_position>},
    {"sample-no-temperature", "the temperature is 1", kSample, with<no_temperature>},
    {"sample-inverted", "the temperature is taken for its reciprocal", kSample, with<inverted_temperature>},
    {"sample-greedy", "there is no noise", kSample, chosen_by<without_noise>},
    {"sample-negated", "the noise has the other sign", kSample, chosen_by<noise_negated>},
    {"sample-noise-scaled", "the temperature divides the noise too", kSample, chosen_by<noise_scaled>},
    {"sample-uniform", "the noise is uniform", kSample, chosen_by<noise_uniform>},
    {"sample-one-logarithm", "the noise is exponential: one logarithm is missing", kSample, chosen_by<one_logarithm>},
    {"sample-noise-f32", "the noise is computed in float32", kSample, chosen_by<noise_in_f32>},
    {"sample-score-f32", "scores are rounded to float32", kSample, chosen_by<score_in_f32>},
    {"sample-32-bits", "the uniform numbers have 32 bits", kSample, chosen_by<fewer_bits>},
    {"sample-counter-swapped", "position and index change places in the counter", kSample, chosen_by<id_for_position>},
    {"sample-ties", "the higher index wins among equal scores", kSample, chosen_by<honest_score, true>},
};

}  // namespace

std::span<const Fault> sample_faults() { return kFaults; }

}  // namespace mutant
