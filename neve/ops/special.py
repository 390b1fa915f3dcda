"""torch.special's rarer functions; references in decimals or by definition."""

from __future__ import annotations

import numpy as np

from neve.ops import bessel_reference as ref
from neve.ops.pointwise import pointwise
from neve.ops.special_reference import f64

BesselJ0 = pointwise("bessel_j0", 1, ref.bessel_j(0), domain=(-60, 60))
BesselJ1 = pointwise("bessel_j1", 1, ref.bessel_j(1), domain=(-60, 60))
BesselY0 = pointwise("bessel_y0", 1, ref.bessel_y(0), domain=(0, 60))
BesselY1 = pointwise("bessel_y1", 1, ref.bessel_y(1), domain=(0, 60))
ModifiedBesselK0 = pointwise("modified_bessel_k0", 1, ref.bessel_k(0, False), domain=(0, 60))
ModifiedBesselK1 = pointwise("modified_bessel_k1", 1, ref.bessel_k(1, False), domain=(0, 60))
ScaledModifiedBesselK0 = pointwise("scaled_modified_bessel_k0", 1, ref.bessel_k(0, True), domain=(0, 60))
ScaledModifiedBesselK1 = pointwise("scaled_modified_bessel_k1", 1, ref.bessel_k(1, True), domain=(0, 60))
SphericalBesselJ0 = pointwise("spherical_bessel_j0", 1, ref.spherical_bessel_j0, domain=(-9, 9))
AiryAi = pointwise("airy_ai", 1, ref.airy_ai, domain=(-20, 10))
Erfcx = pointwise("erfcx", 1, ref.erfcx, domain=(-4, 30))
Igamma = pointwise("igamma", 2, ref.igamma(False), domain=(0, 20))
Igammac = pointwise("igammac", 2, ref.igamma(True), domain=(0, 20))
FrexpMantissa = pointwise("frexp_mantissa", 1, f64(lambda x: np.frexp(x)[0]), domain=(-1e6, 1e6))
FrexpExponent = pointwise(
    "frexp_exponent", 1, f64(lambda x: np.where(np.isfinite(x), np.frexp(x)[1], 0)), domain=(-1e6, 1e6)
)
"""As a float."""

ChebyshevPolynomialT = pointwise(
    "chebyshev_polynomial_t", 2, ref.polynomial(lambda x: x, lambda x, k, q, p: 2 * x * q - p)
)
ChebyshevPolynomialU = pointwise(
    "chebyshev_polynomial_u", 2, ref.polynomial(lambda x: 2 * x, lambda x, k, q, p: 2 * x * q - p)
)
ChebyshevPolynomialV = pointwise(
    "chebyshev_polynomial_v", 2, ref.polynomial(lambda x: 2 * x - 1, lambda x, k, q, p: 2 * x * q - p)
)
ChebyshevPolynomialW = pointwise(
    "chebyshev_polynomial_w", 2, ref.polynomial(lambda x: 2 * x + 1, lambda x, k, q, p: 2 * x * q - p)
)
HermitePolynomialH = pointwise(
    "hermite_polynomial_h", 2, ref.polynomial(lambda x: 2 * x, lambda x, k, q, p: 2 * x * q - 2 * k * p)
)
HermitePolynomialHe = pointwise(
    "hermite_polynomial_he", 2, ref.polynomial(lambda x: x, lambda x, k, q, p: x * q - k * p)
)
LaguerrePolynomialL = pointwise(
    "laguerre_polynomial_l",
    2,
    ref.polynomial(lambda x: 1 - x, lambda x, k, q, p: ((2 * k + 1 - x) * q - k * p) / (k + 1)),
)
LegendrePolynomialP = pointwise(
    "legendre_polynomial_p", 2, ref.polynomial(lambda x: x, lambda x, k, q, p: ((2 * k + 1) * x * q - k * p) / (k + 1))
)
