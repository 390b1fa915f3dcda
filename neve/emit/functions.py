"""The scalar functions of `neve.ir.loops.Call`, in C, by the kind of their arguments.

Kinds: v = vector of float32 (`vf`; comparisons give `vi` masks), m = vector mask (`vi`, lanes all ones or zero),
n = vector of integers of 32 bits (`vi`; what they stand for is in `neve.emit.integers`), f = float32 scalar,
d = float64 scalar, i = integer scalar (C type {T}, of {B} bits, unsigned {U} at least as wide), b = bool scalar (0 or
1). {0}, {1}, {2} are the arguments: names or literals. A missing vector form makes the loop scalar; a missing scalar
form is a refusal. float16 and bfloat16 are computed as f. The names are those of `neve.ops`; their definitions are in
kernels/math.h.
"""

from __future__ import annotations

FUNCTIONS: dict[str, dict[str, str]] = {}


def _define(names: str, **forms: str) -> None:
    for name in names.split():
        FUNCTIONS[name] = {k: t.replace("NAME", name) for k, t in forms.items()}


_define(
    "exp exp2 expm1 log log2 log10 log1p tanh sigmoid erf erfc gelu gelu_tanh silu softplus mish sin cos tan "
    "asin acos atan sinh cosh asinh acosh atanh rsqrt sqrt floor ceil trunc round logsigmoid lgamma digamma trigamma "
    "erfinv i0 i0e i1 i1e ndtr ndtri log_ndtr sinc",
    v="vf_NAME({0})",
    f="sf_NAME({0})",
    d="sd_NAME({0})",
)
_define(
    "pow atan2 hypot fmod remainder xlogy xlog1py fmax fmin",
    v="vf_NAME({0}, {1})",
    f="sf_NAME({0}, {1})",
    d="sd_NAME({0}, {1})",
)
FUNCTIONS["pow"]["i"] = "({T})si64_pow({0}, {1})"
FUNCTIONS["fmod"]["i"] = "({T})si64_fmod({0}, {1})"
FUNCTIONS["remainder"]["i"] = "({T})si64_mod({0}, {1})"
_define("zeta polygamma", f="(float)sd_NAME((double){0}, (double){1})", d="sd_NAME({0}, {1})")
_define(
    "bessel_j0 bessel_j1 bessel_y0 bessel_y1 modified_bessel_k0 modified_bessel_k1 scaled_modified_bessel_k0 "
    "scaled_modified_bessel_k1 spherical_bessel_j0 airy_ai erfcx frexp_mantissa frexp_exponent",
    f="(float)sd_NAME((double){0})",
    d="sd_NAME({0})",
)
_define(
    "igamma igammac chebyshev_polynomial_t chebyshev_polynomial_u chebyshev_polynomial_v chebyshev_polynomial_w "
    "hermite_polynomial_h hermite_polynomial_he laguerre_polynomial_l legendre_polynomial_p",
    f="(float)sd_NAME((double){0}, (double){1})",
    d="sd_NAME({0}, {1})",
)
_define("reciprocal", v="vf_recip({0})", f="sf_recip({0})", d="sd_recip({0})")
_define("sign", v="vf_sign({0})", f="sf_sign({0})", d="sd_sign({0})", i="({T})si64_sign({0})")
_define("abs", v="vf_abs({0})", f="sf_abs({0})", d="sd_abs({0})", i="({T})si64_abs({0})")
_define("neg", v="-({0})", f="-({0})", d="-({0})", i="({T})(0 - ({U}){0})")
_define(
    "add",
    v="({0} + {1})",
    f="({0} + {1})",
    d="({0} + {1})",
    i="({T})(({U}){0} + ({U}){1})",
    b="({0} | {1})",
    m="({0} | {1})",
)
_define("sub", v="({0} - {1})", f="({0} - {1})", d="({0} - {1})", i="({T})(({U}){0} - ({U}){1})")
_define(
    "mul",
    v="({0} * {1})",
    f="({0} * {1})",
    d="({0} * {1})",
    i="({T})(({U}){0} * ({U}){1})",
    b="({0} & {1})",
    m="({0} & {1})",
)
# a·b + c, rounded once where the target can: for what eager's own kernels fuse, or compute in another order anyway
_define("fma", v="vf_fma({0}, {1}, {2})", f="sf_fma({0}, {1}, {2})", d="sd_fma({0}, {1}, {2})")
_define("div", v="({0} / {1})", f="({0} / {1})", d="({0} / {1})")
_define(
    "floor_divide",
    v="vf_floordiv({0}, {1})",
    f="sf_floordiv({0}, {1})",
    d="sd_floordiv({0}, {1})",
    i="({T})si64_floordiv({0}, {1})",
)
_define(
    "trunc_divide",
    v="vf_trunc({0} / {1})",
    f="sf_trunc({0} / {1})",
    d="sd_trunc({0} / {1})",
    i="({T})si64_truncdiv({0}, {1})",
)
_define(
    "maximum",
    v="vmax({0}, {1})",
    f="sf_maximum({0}, {1})",
    d="sd_maximum({0}, {1})",
    i="({0} > {1} ? {0} : {1})",
    b="({0} | {1})",
    m="({0} | {1})",
)
_define(
    "minimum",
    v="vmin({0}, {1})",
    f="sf_minimum({0}, {1})",
    d="sd_minimum({0}, {1})",
    i="({0} < {1} ? {0} : {1})",
    b="({0} & {1})",
    m="({0} & {1})",
)
# with a constant that is no NaN, such as a clamp's bound: NaN if the first is; of two zeros the first, as in eager
_define("maximum_number", v="vmax_number({0}, {1})", f="({0} < {1} ? {1} : {0})", d="({0} < {1} ? {1} : {0})")
_define("minimum_number", v="vmin_number({0}, {1})", f="({0} > {1} ? {1} : {0})", d="({0} > {1} ? {1} : {0})")
_define(
    "copysign",
    f="__builtin_copysignf({0}, {1})",
    d="__builtin_copysign({0}, {1})",
    v="vfrombits((vbits({0}) & 0x7fffffff) | (vbits({1}) & (-0x7fffffff - 1)))",
)
_define("nextafter", f="sf_nextafter({0}, {1})", d="sd_nextafter({0}, {1})")
_define("gcd", i="({T})si64_gcd({0}, {1})")
_define("bitwise_left_shift", i="({T})si64_shift_left({0}, {1}, {B})")
_define("bitwise_right_shift", i="({T})si64_shift_right({0}, {1}, {B})")
for _name, _op in {"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}.items():
    _form = f"({{0}} {_op} {{1}})"
    _define(_name, v=_form, f=_form, d=_form, i=_form, b=_form)
_define("logical_not", f="({0} == 0)", d="({0} == 0)", i="({0} == 0)", b="(!{0})", v="({0} == vset(0.0f))", m="(~{0})")
for _name, _op in {"logical_and": "&", "logical_or": "|", "logical_xor": "^"}.items():
    _form = f"(({{0}} != 0) {_op} ({{1}} != 0))"
    _define(
        _name,
        f=_form,
        d=_form,
        i=_form,
        b=f"({{0}} {_op} {{1}})",
        m=f"({{0}} {_op} {{1}})",
        v=f"(({{0}} != vset(0.0f)) {_op} ({{1}} != vset(0.0f)))",
    )
for _name, _source in {
    "eq": "(~({0} ^ {1}))",
    "ne": "({0} ^ {1})",
    "lt": "(~{0} & {1})",
    "le": "(~{0} | {1})",
    "gt": "({0} & ~{1})",
    "ge": "({0} | ~{1})",
}.items():
    FUNCTIONS[_name]["m"] = _source
for _name, _source in {
    "add": "({0} + {1})",
    "sub": "({0} - {1})",
    "mul": "({0} * {1})",
    "maximum": "vmax_i({0}, {1})",
    "minimum": "vmin_i({0}, {1})",
    **{name: FUNCTIONS[name]["v"] for name in ("eq", "ne", "lt", "le", "gt", "ge")},
}.items():
    FUNCTIONS[_name]["n"] = _source
_define("isnan", v="({0} != {0})", f="({0} != {0})", d="({0} != {0})", i="0", b="0")
_define(
    "isinf",
    v="(vf_abs({0}) == vset(__builtin_inff()))",
    f="(sf_abs({0}) == __builtin_inff())",
    d="(sd_abs({0}) == __builtin_inf())",
    i="0",
    b="0",
)
_define(
    "signbit",
    v="(vbits({0}) < 0)",
    f="(__builtin_signbit({0}) != 0)",
    d="(__builtin_signbit({0}) != 0)",
    i="(si64_sign({0}) < 0)",
)
_define("bitwise_and", i="({T})({0} & {1})", b="({0} & {1})", m="({0} & {1})")
_define("bitwise_or", i="({T})({0} | {1})", b="({0} | {1})", m="({0} | {1})")
_define("bitwise_xor", i="({T})({0} ^ {1})", b="({0} ^ {1})", m="({0} ^ {1})")
_define("bitwise_not", i="({T})~{0}", b="(!{0})", m="(~{0})")
_define(
    "where",
    v="vselect({0}, {1}, {2})",
    f="({0} ? {1} : {2})",
    d="({0} ? {1} : {2})",
    i="({0} ? {1} : {2})",
    b="({0} ? {1} : {2})",
    m="(({0} & {1}) | (~{0} & {2}))",
    n="(({0} & {1}) | (~{0} & {2}))",
)
