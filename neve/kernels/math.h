/* Mathematical functions without libm: sf_NAME(float), vf_NAME(vf), sd_NAME(double).
 *
 * One argument: exp exp2 expm1 log log2 log10 log1p tanh sigmoid logsigmoid erf erfc gelu gelu_tanh silu softplus mish sin cos tan asin acos atan
 * sinh cosh asinh acosh atanh sqrt rsqrt recip abs floor ceil trunc round (half to even) sign
 * lgamma digamma trigamma erfinv ndtr ndtri log_ndtr i0 i0e i1 i1e sinc.
 * Two: pow atan2 fmod remainder floordiv hypot maximum minimum fmax fmin xlogy xlog1py; double only: zeta(x, q) polygamma(n, x).
 * Integers (math_int.h): si64_ and si32_ floordiv mod truncdiv fmod pow. Half types (half.h): sh_to_f sf_to_h sb_to_f sf_to_b.
 * On bits (math_bits.h): sf_nextafter sd_nextafter si64_sign si64_abs si64_shift_left si64_shift_right si64_gcd.
 */
#ifndef NEVE_MATH_H
#define NEVE_MATH_H

#include "half.h"
#include "math_bits.h"
#include "math_f32.h"
#include "math_int.h"

#endif
