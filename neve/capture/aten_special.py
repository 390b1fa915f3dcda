"""Builders of torch.special's rarer functions."""

from __future__ import annotations

from typing import Any

from neve.capture.aten import aten
from neve.capture.aten_pointwise import binary, unary
from neve.capture.context import INT_TO_FLOAT, Context
from neve.ir.graph import Value
from neve.ir.types import DType

BESSEL = (
    "bessel_j0 bessel_j1 bessel_y0 bessel_y1 modified_bessel_k0 modified_bessel_k1 scaled_modified_bessel_k0 "
    "scaled_modified_bessel_k1 spherical_bessel_j0 airy_ai erfcx modified_bessel_i0:i0 modified_bessel_i1:i1"
)
POLYNOMIALS = (
    "chebyshev_polynomial_t chebyshev_polynomial_u chebyshev_polynomial_v chebyshev_polynomial_w hermite_polynomial_h "
    "hermite_polynomial_he laguerre_polynomial_l legendre_polynomial_p"
)

for _entry in BESSEL.split():
    _name, _, _function = _entry.partition(":")
    unary(f"special_{_name}:{_function or _name}", True)
binary("igamma igammac", True)


def polynomial(name: str, function: str, shifted: bool) -> None:
    """special_NAME(x, n); the shifted ones are at 2 x - 1."""

    @aten(f"special_{name}", f"special_{name}.x_scalar", f"special_{name}.n_scalar")
    def build(c: Context, x: Any, n: Any) -> Value:
        dtype = c.promote(x, n, kind=INT_TO_FLOAT)
        at = c.tensor(x, dtype)
        if shifted:
            at = c("sub", c("add", at, at), c.full(1, dtype))
        return c(function, at, c.tensor(n, dtype))


for _name in POLYNOMIALS.split():
    polynomial(_name, _name, False)
    if _name.startswith("chebyshev"):
        polynomial(f"shifted_{_name}", _name, True)


@aten("frexp.Tensor")
def frexp(c: Context, x: Value) -> tuple[Value, Value]:
    return c("frexp_mantissa", x), c.cast(c("frexp_exponent", x), DType.int32)
