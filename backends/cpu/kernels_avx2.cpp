// Eight lanes with fused multiply-add.
#define CONCORD_LANES 8
#define CONCORD_FMA 1
#define CONCORD_KERNELS kAvx2Kernels
#define CONCORD_KERNELS_NAME "avx2 8 lanes fma"
#include "kernels_impl.hpp"
