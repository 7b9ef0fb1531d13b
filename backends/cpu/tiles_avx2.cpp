// float32 tiles with eight outputs to a vector. Sums of 256 inputs instead of 512 make this variant's bits its own.
#define CONCORD_LANES 8
#define CONCORD_FMA 1
#define CONCORD_TILES kAvx2Tiles
#define CONCORD_TILES_NAME "avx2 f32 fma, sums of 256"
#define CONCORD_TILE_ROWS 3
#define CONCORD_TILE_BLOCK 256
#include "tiles_impl.hpp"
