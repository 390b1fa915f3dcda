/* Undefines the optional macros of gemm_tile.h: the next instance starts from its defaults. */
#undef TILE_LDA
#undef TILE_AK
#undef TILE_BS
#undef TILE_BV
#undef TILE_PARTIAL
#undef TILE_HALF
#undef TILE_PAIRS
#undef TILE_BT
#undef TILE_LOADB
#undef TILE_SPREAD
