/* conv_weights.h: stored weights as the tiles read them, which is as floats.

     CV_W                   the type of p[1]'s elements, by CONV_TYPE: 0 float32, 1 float16, 2 bfloat16
     CV_FLOATS(from, to, n) n weights from `from` on as floats: where they are, or, if they are halves, in `to`
     CV_LINES(n)            cache lines that n weights take
   conv_undef.h undefines them. */
#if CONV_TYPE
#include "../vec_half.h"
#define CV_W uint16_t
#define CV_FLOATS(from, to, n) (CONV_TYPE == 1 ? vwiden_f16(to, from, n) : vwiden_bf16(to, from, n))
#else
#define CV_W float
#define CV_FLOATS(from, to, n) (from)
#endif
#define CV_LINES(n) ((int64_t)(n) * (int64_t)sizeof(CV_W) / 64)
