// One lane, no FMA: every sum sequential in index order, every product rounded before it is added. The bits are fully
// defined.
#define CONCORD_LANES 1
#define CONCORD_FMA 0
#define CONCORD_KERNELS kStrictKernels
#define CONCORD_KERNELS_NAME "strict sequential f32, no fma"
#include "kernels_impl.hpp"
