/* conv_heights.h: CV_TILE(R), which the including template defines, for every height up to CONV_MR, and KN(dispatch), which
   calls the tile of `rows` rows (KN(last##R) if `last` and the panels have a rest, else KN(full##R)). Undefines CV_TILE. */
#define CV_CASE(R)                                      \
    case R:                                             \
        if (CV_REST != 0 && last) KN(last##R)(p, s, j); \
        else KN(full##R)(p, s, j);                      \
        break;
CV_TILE(1)
#if CONV_MR > 1
CV_TILE(2)
#endif
#if CONV_MR > 2
CV_TILE(3)
#endif
#if CONV_MR > 3
CV_TILE(4)
#endif
#if CONV_MR > 4
CV_TILE(5)
#endif
#if CONV_MR > 5
CV_TILE(6)
#endif
#if CONV_MR > 6
CV_TILE(7)
#endif
#if CONV_MR > 7
CV_TILE(8)
#endif

static inline void KN(dispatch)(void *const *p, const int64_t *s, const KN(job) * j, int64_t rows, int last) {
    (void)last;
    switch (rows) {
        CV_CASE(1)
#if CONV_MR > 1
        CV_CASE(2)
#endif
#if CONV_MR > 2
        CV_CASE(3)
#endif
#if CONV_MR > 3
        CV_CASE(4)
#endif
#if CONV_MR > 4
        CV_CASE(5)
#endif
#if CONV_MR > 5
        CV_CASE(6)
#endif
#if CONV_MR > 6
        CV_CASE(7)
#endif
#if CONV_MR > 7
        CV_CASE(8)
#endif
    }
}
#undef CV_CASE
#undef CV_TILE
