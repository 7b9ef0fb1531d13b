#include "compare/vectors_portable.hpp"
// The vectors come first: they are what the source is written in.
#include "compare/kernels_source.hpp"

namespace concord::detail {

extern const Kernels kKernelsPortable;
const Kernels kKernelsPortable = kThese;

}  // namespace concord::detail
