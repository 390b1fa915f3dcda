"""The scalar functions of `neve.ir.loops.Call`, in C, by the kind of their arguments.

Kinds: v = vector of float32 (`vf`, conditions `vi`), f = float32 scalar, d = float64 scalar, i = integer scalar (C type {T}, of {B} bits),
b = bool scalar. {0}, {1}, {2} are the arguments. A missing vector form makes the loop scalar; a missing scalar form is a
refusal. float16 and bfloat16 are computed as f. The names are ATen's; their definitions are in kernels/math.h.
"""
from __future__ import annotations

FUNCTIONS: dict[str, dict[str, str]] = {}


def _define(names: str, **forms: str) -> None:
    for name in names.split():
        FUNCTIONS[name] = {k: t.replace("NAME", name) for k, t in forms.items()}


_define("exp exp2 expm1 log log2 log10 log1p tanh sigmoid erf erfc gelu gelu_tanh silu softplus mish sin cos tan asin acos atan sinh cosh asinh "
        "acosh atanh rsqrt sqrt floor ceil trunc round sign logsigmoid", v="vf_NAME({0})", f="sf_NAME({0})", d="sd_NAME({0})")
_define("lgamma digamma erfinv i0 i0e i1 i1e ndtri log_ndtr", f="sf_NAME({0})", d="sd_NAME({0})")
_define("pow atan2 hypot", v="vf_NAME({0}, {1})", f="sf_NAME({0}, {1})", d="sd_NAME({0}, {1})")
_define("fmax fmin", v="vf_NAME({0}, {1})", f="sf_NAME({0}, {1})", d="sd_NAME({0}, {1})")
_define("abs", v="vf_abs({0})", f="sf_abs({0})", d="sd_abs({0})", i="({0} < 0 ? ({T})-{0} : {0})")
_define("neg", v="-({0})", f="-({0})", d="-({0})", i="({T})(0 - ({U}){0})")
_define("add", v="({0} + {1})", f="({0} + {1})", d="({0} + {1})", i="({T})(({U}){0} + ({U}){1})", b="({0} | {1})")
_define("sub", v="({0} - {1})", f="({0} - {1})", d="({0} - {1})", i="({T})(({U}){0} - ({U}){1})")
_define("mul", v="({0} * {1})", f="({0} * {1})", d="({0} * {1})", i="({T})(({U}){0} * ({U}){1})", b="({0} & {1})")
_define("div", v="({0} / {1})", f="({0} / {1})", d="({0} / {1})")
_define("floor_divide", f="sf_NAME({0}, {1})", d="sd_NAME({0}, {1})", i="({T})si64_floordiv({0}, {1})")
_define("remainder", v="vf_NAME({0}, {1})", f="sf_NAME({0}, {1})", d="sd_NAME({0}, {1})", i="({T})si64_mod({0}, {1})")
_define("fmod", v="vf_NAME({0}, {1})", f="sf_NAME({0}, {1})", d="sd_NAME({0}, {1})", i="({T})si64_fmod({0}, {1})")
_define("maximum", v="vmax({0}, {1})", f="sf_maximum({0}, {1})", d="sd_maximum({0}, {1})", i="({0} > {1} ? {0} : {1})", b="({0} | {1})")
_define("minimum", v="vmin({0}, {1})", f="sf_minimum({0}, {1})", d="sd_minimum({0}, {1})", i="({0} < {1} ? {0} : {1})", b="({0} & {1})")
for _name, _op in dict(eq="==", ne="!=", lt="<", le="<=", gt=">", ge=">=").items():
    _form = f"({{0}} {_op} {{1}})"
    _define(_name, v=_form, f=_form, d=_form, i=_form, b=_form)
_define("logical_not", f="({0} == 0)", d="({0} == 0)", i="({0} == 0)", b="(!{0})", v="({0} == 0)")
_define("logical_and", f="({0} != 0 && {1} != 0)", d="({0} != 0 && {1} != 0)", i="({0} != 0 && {1} != 0)", b="({0} & {1})")
_define("logical_or", f="({0} != 0 || {1} != 0)", d="({0} != 0 || {1} != 0)", i="({0} != 0 || {1} != 0)", b="({0} | {1})")
_define("logical_xor", f="(({0} != 0) != ({1} != 0))", d="(({0} != 0) != ({1} != 0))", i="(({0} != 0) != ({1} != 0))", b="({0} ^ {1})")
_define("isnan", v="({0} != {0})", f="({0} != {0})", d="({0} != {0})", i="0", b="0")
_define("isinf", v="(vf_abs({0}) == vset(__builtin_inff()))", f="(sf_abs({0}) == __builtin_inff())", d="(sd_abs({0}) == __builtin_inf())", i="0", b="0")
_define("bitwise_and", i="({T})({0} & {1})", b="({0} & {1})")
_define("bitwise_or", i="({T})({0} | {1})", b="({0} | {1})")
_define("bitwise_xor", i="({T})({0} ^ {1})", b="({0} ^ {1})")
_define("bitwise_not", i="({T})~{0}", b="(!{0})")
_define("where", v="vselect({0}, {1}, {2})", f="({0} ? {1} : {2})", d="({0} ? {1} : {2})", i="({0} ? {1} : {2})", b="({0} ? {1} : {2})")
