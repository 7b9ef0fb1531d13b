// A conformance case: an operator with a value for each of its keys, written as one canonical line. That line is the case's id: command-line argument, test
// name, record key and repro line, and (with the seed) the key of its input data. Knows no device and no tolerance.
#pragma once
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.hpp"

namespace concord::conformance {

// "matmul/K=4096,M=1,N=4096,bias=0,fuse=none,in=gaussian,w=u4g128,x=bf16": keys in byte order, integers in decimal without leading zeros, words of [a-z0-9._-].
// A key of one capital letter is an axis (an integer extent), any other key is an option (a word). The keys of each operator stand in docs/operators.md.
struct CaseSpec {
  std::string op;
  std::map<std::string, std::int64_t> axes;
  std::map<std::string, std::string> options;

  std::string id() const;
  // Errors: case.syntax, case.not_canonical (the canonical form is in the message).
  static Result<CaseSpec> parse(std::string_view id);
  // Programmer mistakes: the operator must have the key.
  std::int64_t axis(const std::string& key) const { return axes.at(key); }
  const std::string& option(const std::string& key) const { return options.at(key); }
  auto operator<=>(const CaseSpec&) const = default;
};

enum class Tier { kSmoke, kFull, kNightly };  // each holds the ones before it
const char* tier_name(Tier t);                // "smoke"
Result<Tier> tier_from_name(const std::string& name);

// A case with what the suite says of it.
struct PlannedCase {
  CaseSpec spec;
  std::string id;      // spec.id()
  std::string family;  // what CTest and reports group by: embedding, norm, matmul, rope, kv, attention, activation, softmax, select
  Tier tier = Tier::kSmoke;
  std::vector<std::string> tags;  // "model:llama-3.1-8b", "stage:decode", "shape:tile-border"
  double bytes = 0, flops = 0;    // of one call, by the definition's formulas
};

}  // namespace concord::conformance
