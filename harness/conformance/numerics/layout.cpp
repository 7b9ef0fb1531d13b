#include "conformance/numerics/layout.hpp"

namespace concord::conformance {
namespace {

constexpr Role kTable = Role::kTable, kParameter = Role::kParameter, kIndex = Role::kIndex, kCache = Role::kCache,
               kScale = Role::kScale;
constexpr OperandRow act(const char* name, const char* dims) {
  return {name, dims, Type::kActivation, Role::kActivation, true, When::kAlways};
}
constexpr OperandRow index(const char* name, const char* dims) {
  return {name, dims, Type::kIndex, kIndex, true, When::kAlways};
}
constexpr OperandRow parameter(const char* name, const char* dims, When when = When::kAlways) {
  return {name, dims, Type::kF32, kParameter, false, when};
}
constexpr OperandRow angle(const char* name) { return {name, "Ph", Type::kAngle, kTable, false, When::kAlways}; }
constexpr OperandRow cache(const char* name, const char* dims) {
  return {name, dims, Type::kCache, kCache, false, When::kAlways};
}
constexpr OperandRow scale(const char* name, const char* dims) {
  return {name, dims, Type::kScale, kScale, false, When::kInt8Cache};
}
constexpr OperandRow kNone{};
constexpr OperandRow kZ{"z", "MN", Type::kActivation, Role::kSum, true, When::kFused};
constexpr OperandRow kWeights{"weight", "TK", Type::kF32, Role::kActivation, true, When::kAlways};

// clang-format off
constexpr std::array<OpLayout, CONCORD_OP_COUNT> kLayouts = {{
    {"embedding", CONCORD_OP_EMBEDDING, "TVK", "w", "uniform special subnormal", "VK",
     {index("ids", "T")}, {act("y", "TK")}},
    {"rmsnorm", CONCORD_OP_RMSNORM, "RN", "eps place", "uniform gaussian heavy subnormal special exact", "",
     {act("x", "RN"), parameter("gain", "N")}, {act("y", "RN")}},
    {"layernorm", CONCORD_OP_LAYERNORM, "RN", "eps place", "uniform gaussian heavy cancel subnormal special exact", "",
     {act("x", "RN"), parameter("gain", "N"), parameter("shift", "N")}, {act("y", "RN")}},
    {"matmul", CONCORD_OP_MATMUL, "MNK", "w bias fuse place", "exact uniform gaussian heavy cancel subnormal special", "NK",
     {act("x", "MK"), parameter("bias", "N", When::kBias), kZ}, {act("y", "MN")}},
    {"rope", CONCORD_OP_ROPE, "THDP", "place", "uniform gaussian exact special", "",
     {act("x", "THD"), angle("cos"), angle("sin"), index("positions", "T")}, {act("y", "THD")}},
    {"kv_append", CONCORD_OP_KV_APPEND, "TGDP", "kv", "uniform heavy special subnormal", "",
     {act("k", "TGD"), act("v", "TGD"), index("rows", "T")},
     {cache("kc", "PGD"), cache("vc", "PGD"), scale("ks", "PG"), scale("vs", "PG")}},
    {"attention", CONCORD_OP_ATTENTION, "THGDLPS", "kv", "gaussian heavy shift exact cancel", "",
     {act("q", "THD"), cache("kc", "CGD"), cache("vc", "CGD"), index("rows", "T"), scale("ks", "CG"), scale("vs", "CG")},
     {act("y", "THD")}},
    {"swiglu", CONCORD_OP_SWIGLU, "RN", "place", "uniform gaussian heavy special subnormal", "",
     {act("gate", "RN"), act("up", "RN")}, {act("y", "RN")}},
    {"gelu", CONCORD_OP_GELU, "RN", "form place", "uniform gaussian heavy special subnormal", "",
     {act("x", "RN")}, {act("y", "RN")}},
    {"add", CONCORD_OP_ADD, "RN", "place", "exact uniform heavy cancel special subnormal", "",
     {act("a", "RN"), act("b", "RN")}, {act("y", "RN")}},
    {"softmax", CONCORD_OP_SOFTMAX, "RN", "place", "gaussian heavy shift exact special", "",
     {act("x", "RN")}, {act("y", "RN")}},
    {"topk_routing", CONCORD_OP_TOPK_ROUTING, "TEK", "norm", "exact gaussian shift", "",
     {act("logits", "TE")}, {kWeights, index("expert", "TK")}},
    {"argmax", CONCORD_OP_ARGMAX, "TV", "", "exact gaussian special", "",
     {act("x", "TV")}, {index("index", "T")}},
    {"sample", CONCORD_OP_SAMPLE, "TV", "temp", "exact gaussian heavy cancel special", "",
     {act("x", "TV"), index("positions", "T")}, {index("index", "T")}},
}};
// clang-format on

template <class T>
std::array<std::byte, 8> bytes_of(T bits) {
  std::array<std::byte, 8> out{};
  std::memcpy(out.data(), &bits, sizeof bits);
  return out;
}

}  // namespace

const std::array<OpLayout, CONCORD_OP_COUNT>& layouts() { return kLayouts; }

const OpLayout* layout_of(const std::string& op) {
  for (const OpLayout& l : kLayouts)
    if (op == l.op) return &l;
  return nullptr;
}

bool is_one_of(std::string_view words, std::string_view word) {
  while (!words.empty()) {
    const std::size_t end = std::min(words.find(' '), words.size());
    if (words.substr(0, end) == word) return !word.empty();
    words.remove_prefix(std::min(end + 1, words.size()));
  }
  return false;
}

std::string word_or(const CaseSpec& spec, const char* key, const char* other) {
  const auto it = spec.options.find(key);
  return it == spec.options.end() ? other : it->second;
}

std::array<std::byte, 8> poison(std::uint32_t dtype, unsigned repetition) {
  const bool finite = repetition % 2 != 0;
  switch (dtype) {
    case CONCORD_F64:
      return bytes_of(finite ? std::uint64_t{0xc0c81cd6e631f8a1} : std::uint64_t{0x7ff8dead5badf00d});
    case CONCORD_F32:
      return bytes_of(finite ? 0xc640e6b7u : 0x7fcdbaadu);  // -12345.679; NaN
    case CONCORD_F16:
      return bytes_of(static_cast<std::uint16_t>(finite ? 0xe4d3u : 0x7eadu));  // -1235; NaN
    case CONCORD_BF16:
      return bytes_of(static_cast<std::uint16_t>(finite ? 0xc4d3u : 0x7fedu));  // -1688; NaN
    case CONCORD_I32:
      return bytes_of(finite ? 0x3ead1234u : 0x7eadbeefu);
    default:
      return bytes_of(static_cast<std::uint8_t>(finite ? 0x5a : 0x80));
  }
}

Fence fence_of(const Operand& output) {
  const std::uint64_t end = output.offset + output.bytes + kGuardBytes;
  return {output.offset - kGuardBytes, (end + kAlignment - 1) / kAlignment * kAlignment};
}

}  // namespace concord::conformance
