#include "compare/vectors_avx512.hpp"
// The vectors come first: they are what the source is written in.
#include "compare/kernels_source.hpp"

namespace concord::detail {

extern const Kernels kKernelsAvx512;
const Kernels kKernelsAvx512 = kThese;

}  // namespace concord::detail
