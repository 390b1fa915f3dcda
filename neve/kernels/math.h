/* Mathematical functions without libm: sf_NAME(float), vf_NAME(vf), sd_NAME(double).
 *
 * One argument: exp exp2 expm1 log log2 log10 log1p tanh sigmoid logsigmoid erf erfc gelu gelu_tanh silu softplus mish sin cos tan asin acos atan
 * sinh cosh asinh acosh atanh sqrt rsqrt recip abs floor ceil trunc round (half to even) sign
 * lgamma digamma trigamma erfinv ndtr ndtri log_ndtr i0 i0e i1 i1e sinc.
 * Two: pow atan2 fmod remainder floordiv hypot maximum minimum fmax fmin xlogy xlog1py; double only: zeta(x, q) polygamma(n, x). Three: fma(a, b, c).
 * Integers (math_int.h): si64_ and si32_ floordiv mod truncdiv fmod pow. Half types (half.h): sh_to_f sf_to_h sb_to_f sf_to_b.
 * Double only (math_bessel.h): bessel_j0 j1 y0 y1, modified_bessel_k0 k1 and scaled, spherical_bessel_j0 airy_ai erfcx igamma(a, x) igammac
 * frexp_mantissa frexp_exponent; polynomials of degree n (math_orthogonal.h): NAME(x, n).
 * On bits (math_bits.h): sf_nextafter sd_nextafter si64_sign si64_abs si64_shift_left si64_shift_right si64_gcd.
 */
#ifndef NEVE_MATH_H
#define NEVE_MATH_H

#include "half.h"
#include "math_bits.h"
#include "math_f32.h"
#include "math_int.h"
#include "math_bessel.h"
#include "math_orthogonal.h"

#endif
