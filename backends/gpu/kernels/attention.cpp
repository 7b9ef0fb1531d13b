// Attention: which way a call is computed is decided by its shape and types and by the variant alone.
#include "gpu/kernels/attention.hpp"

namespace CONCORD_GPU {
namespace {

constexpr unsigned kFewTokens = 4;

bool aligned(const void* p) { return reinterpret_cast<std::uintptr_t>(p) % 16 == 0; }

AttentionCall describe_call(const Context& c) {
  const concord_tensor *in = c.call.in, &cache = in[1];
  const bool scaled = cache.dtype == CONCORD_I8;
  AttentionCall a{};
  a.q = data(in[0]), a.keys = data(cache), a.values = data(in[2]), a.rows = data<const int>(in[3]);
  if (scaled) a.key_scales = data<const float>(in[4]), a.value_scales = data<const float>(in[5]);
  a.y = data(c.call.out[0]), a.fault = c.device.fault;
  a.cache_rows = cache.dims[0];
  a.tokens = dim(in[0], 0), a.heads = dim(in[0], 1), a.d = dim(in[0], 2), a.groups = dim(cache, 1), a.share = a.heads / a.groups;
  a.dtype = in[0].dtype, a.cache_dtype = cache.dtype;
  // Rows are int32: what lies beyond them belongs to no token.
  const long long sequence = c.call.sequence_rows > 0 && c.call.sequence_rows < a.cache_rows ? c.call.sequence_rows : a.cache_rows;
  a.sequence = static_cast<int>(sequence < 0x7fffffff ? sequence : 0x7fffffff);
  a.scale = static_cast<float>(c.call.scale);
  a.q_aligned = a.d % 8 == 0 && aligned(a.q);
  a.cache_aligned = a.d % 8 == 0 && aligned(a.keys) && aligned(a.values);
  return a;
}

}  // namespace

const char* attention_refuses(const concord_call& call) {
  if (call.in[0].dims[2] > kMostHeadSize) return "heads of more than 256 numbers";
  if (call.in[0].dims[0] * call.in[0].dims[1] > 0x7fffffff) return "more than 2^31 - 1 queries";
  return nullptr;
}

concord_status attention(Context& c) {
  const AttentionCall a = describe_call(c);
  const auto sequences = static_cast<unsigned>((a.cache_rows + a.sequence - 1) / a.sequence);
  if (a.tokens <= kFewTokens || a.tokens <= sequences) return attention_split(c, a);
  const bool halves = (a.dtype == CONCORD_F16 || a.dtype == CONCORD_BF16) && a.dtype == a.cache_dtype;
  if (c.device.variant.tiles && c.device.properties.matrix && halves && a.d % 16 == 0) {
    const concord_status status = attention_tiled(c, a);
    if (status != CONCORD_UNSUPPORTED) return status;
  }
  return attention_portable(c, a);
}

}  // namespace CONCORD_GPU
