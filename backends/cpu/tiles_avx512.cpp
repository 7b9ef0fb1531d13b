// float32 tiles with sixteen outputs to a vector.
#define CONCORD_LANES 16
#define CONCORD_FMA 1
#define CONCORD_TILES kAvx512Tiles
#define CONCORD_TILES_NAME "avx512 f32 fma, sums of 512"
#define CONCORD_TILE_ROWS 6
#define CONCORD_TILE_BLOCK 512
#include "tiles_impl.hpp"
