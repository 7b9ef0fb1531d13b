// Small cases of every operator, and problems with their inputs, for the tests of the numerics.
#pragma once
#include <gtest/gtest.h>

#include "conformance/numerics/problem.hpp"

namespace concord::conformance::testing {

inline Problem problem_of(const std::string& id) {
  const auto spec = CaseSpec::parse(id);
  EXPECT_TRUE(spec.has_value()) << (spec ? "" : spec.error().message);
  auto p = make_problem(*spec);
  EXPECT_TRUE(p.has_value()) << (p ? "" : p.error().message);
  return p ? std::move(*p) : Problem{};
}

inline std::vector<std::byte> inputs_of(const Problem& p, std::uint64_t seed = 0) {
  std::vector<std::byte> arena(p.input_bytes);
  fill_inputs(p, seed, arena);
  return arena;
}

// Every operator with every family, dtype, weight form, cache form and option that it has, on small odd shapes.
std::vector<std::string> small_cases();

}  // namespace concord::conformance::testing
