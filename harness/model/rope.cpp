// Rotary frequencies. Formulas: Hugging Face Transformers, modeling_rope_utils.py; YaRN: Peng et al. 2023, arXiv
// 2309.00071, section 3.2.
#include <algorithm>
#include <cmath>
#include <numbers>

#include "model/spec_parse.hpp"

namespace concord {
namespace {

// Wavelengths beyond original / low are slowed by `factor`, those below original / high are kept, those between are
// mixed.
double llama3_frequency(const RopeSpec& r, double f) {
  const auto original = static_cast<double>(r.original_max_positions);
  const double wavelength = 2.0 * std::numbers::pi / f;
  if (wavelength > original / r.low_freq_factor) return f / r.factor;
  if (wavelength < original / r.high_freq_factor) return f;
  const double smooth = (original / wavelength - r.low_freq_factor) / (r.high_freq_factor - r.low_freq_factor);
  return (1.0 - smooth) * f / r.factor + smooth * f;
}

// The (real-valued) index of the dimension that turns `rotations` times over the original context.
double yarn_dimension(const RopeSpec& r, double rotations, double dim) {
  const auto original = static_cast<double>(r.original_max_positions);
  return dim * std::log(original / (rotations * 2.0 * std::numbers::pi)) / (2.0 * std::log(r.theta));
}

struct Ramp {
  double low, high;
  double at(double i) const { return std::clamp((i - low) / (high - low), 0.0, 1.0); }
};

Ramp yarn_ramp(const RopeSpec& r, double dim) {
  double low = yarn_dimension(r, r.beta_fast, dim), high = yarn_dimension(r, r.beta_slow, dim);
  if (r.truncate) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, dim - 1.0);
  if (low == high) high += 0.001;  // Transformers' guard against a division by zero; part of the definition
  return {low, high};
}

}  // namespace

std::vector<double> RopeSpec::inverse_frequencies(std::int64_t dim) const {
  std::vector<double> out(static_cast<std::size_t>(dim / 2));
  const auto width = static_cast<double>(dim);
  const Ramp ramp = kind == Kind::kYarn ? yarn_ramp(*this, width) : Ramp{0.0, 1.0};
  for (std::size_t i = 0; i < out.size(); ++i) {
    const double f = std::pow(theta, -2.0 * static_cast<double>(i) / width);
    switch (kind) {
      case Kind::kDefault:
        out[i] = f;
        break;
      case Kind::kLinear:
        out[i] = f / factor;
        break;
      case Kind::kLlama3:
        out[i] = llama3_frequency(*this, f);
        break;
      case Kind::kYarn: {
        const double slowed = ramp.at(static_cast<double>(i));
        out[i] = f / factor * slowed + f * (1.0 - slowed);
        break;
      }
    }
    if (!divisors.empty()) out[i] /= divisors[i];
  }
  return out;
}

double yarn_attention_factor(double factor, double mscale, double mscale_all_dim) {
  const auto get_mscale = [factor](double m) { return factor <= 1.0 ? 1.0 : 0.1 * m * std::log(factor) + 1.0; };
  if (mscale != 0.0 && mscale_all_dim != 0.0) return get_mscale(mscale) / get_mscale(mscale_all_dim);
  return get_mscale(1.0);
}

}  // namespace concord
