// float32 tiles without FMA: one sum over all inputs in their order, every product rounded before it is added. The
// vectors hold different outputs, so they change nothing in any of them.
#define CONCORD_LANES 4
#define CONCORD_FMA 0
#define CONCORD_TILES kStrictTiles
#define CONCORD_TILES_NAME "strict f32, no fma, one sum"
#define CONCORD_TILE_ROWS 2
#define CONCORD_TILE_BLOCK 0
#include "tiles_impl.hpp"
