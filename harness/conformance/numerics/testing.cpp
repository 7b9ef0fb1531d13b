#include "conformance/numerics/testing.hpp"

#include <sstream>

#include "conformance/numerics/layout.hpp"

namespace concord::conformance::testing {
namespace {

std::vector<std::string> split(const std::string& words) {
  std::istringstream in(words);
  std::vector<std::string> out;
  for (std::string w; in >> w;) out.push_back(w);
  return out;
}

struct Shape {
  const char *op, *axes;
};
constexpr Shape kShapes[] = {
    {"embedding", "T=5 V=37 K=130"},
    {"rmsnorm", "R=9 N=66"},
    {"layernorm", "R=9 N=66"},
    {"matmul", "M=9 N=18 K=133"},
    {"rope", "T=9 H=3 D=16 P=20"},
    {"kv_append", "T=9 G=2 D=18 P=23"},
    {"attention", "T=6 H=4 G=2 D=18 L=37 P=45 S=2"},
    {"swiglu", "R=3 N=111"},
    {"gelu", "R=3 N=111"},
    {"add", "R=3 N=111"},
    {"softmax", "R=9 N=45"},
    {"topk_routing", "T=7 E=21 K=4"},
    {"argmax", "T=9 V=67"},
    {"sample", "T=9 V=67"},
};
constexpr Shape kOptions[] = {{"w", "f32 f16 bf16 i8 u4g32 u4g32z u4g128 u4g128z"},
                              {"kv", "f32 f16 bf16 i8"},
                              {"eps", "1e-5 1e-6"},
                              {"place", "0 1"},
                              {"bias", "0 1"},
                              {"fuse", "none plus gated"},
                              {"form", "erf tanh"},
                              {"norm", "0 1"},
                              {"temp", "0.7 1 1.5 cold"}};

CaseSpec with_shape(const OpLayout& layout) {
  CaseSpec spec;
  spec.op = layout.op;
  for (const Shape& s : kShapes)
    if (spec.op == s.op)
      for (const std::string& axis : split(s.axes)) spec.axes[axis.substr(0, 1)] = std::stoll(axis.substr(2));
  return spec;
}

std::vector<CaseSpec> times(const std::vector<CaseSpec>& specs, const std::string& key,
                            const std::vector<std::string>& words) {
  std::vector<CaseSpec> out;
  for (CaseSpec s : specs)
    for (const std::string& word : words) s.options[key] = word, out.push_back(s);
  return out;
}

}  // namespace

std::vector<std::string> small_cases() {
  std::vector<std::string> ids;
  for (const OpLayout& layout : layouts()) {
    std::vector<CaseSpec> specs = times({with_shape(layout)}, "x", {"f32", "f16", "bf16", "f64"});
    specs = times(specs, "in", split(layout.families));
    for (const Shape& o : kOptions)
      if (is_one_of(layout.options, o.op)) specs = times(specs, o.op, split(o.axes));
    for (const CaseSpec& s : specs)
      if (!(s.op == "matmul" && s.option("place") == "1" && s.option("fuse") == "none")) ids.push_back(s.id());
  }
  return ids;
}

}  // namespace concord::conformance::testing
