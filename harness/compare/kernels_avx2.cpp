#include "compare/vectors_avx2.hpp"
// The vectors come first: they are what the source is written in.
#include "compare/kernels_source.hpp"

namespace concord::detail {

extern const Kernels kKernelsAvx2;
const Kernels kKernelsAvx2 = kThese;

}  // namespace concord::detail
