// Sixteen lanes with fused multiply-add.
#define CONCORD_LANES 16
#define CONCORD_FMA 1
#define CONCORD_KERNELS kAvx512Kernels
#define CONCORD_KERNELS_NAME "avx512 16 lanes fma"
#include "kernels_impl.hpp"
