"""Ops whose number the run decides, and that have no overload with a tensor in its place, by others that have."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from neve.capture.torchscript.numbers import binary, unary
from neve.capture.torchscript.tape import Recorder
from neve.capture.torchscript.values import Num, Refusal, Var

Call = Callable[..., Any]
"""Records the aten op of a name on interpreter values."""


def form(tape: Recorder, call: Call, name: str, bound: Mapping[str, Any]) -> Any:
    """The op with these arguments, of which some are numbers of the run; NotImplemented if it has no such form."""
    make = FORMS.get(name.removesuffix("_"))
    if make is None:
        return NotImplemented
    given = dict(bound)
    x = given.pop("self")
    result = make(tape, call, x, **given)
    return call("copy_", x, result) if name.endswith("_") and result is not NotImplemented else result


def _hardtanh(_: Recorder, call: Call, x: Var, min_val: Any = -1, max_val: Any = 1) -> Any:
    return call("clamp", x, min_val, max_val)


def _leaky_relu(_: Recorder, call: Call, x: Var, negative_slope: Any = 0.01) -> Any:
    return call("where", call("gt", x, 0), x, call("mul", x, negative_slope))


def _threshold(_: Recorder, call: Call, x: Var, threshold: Any, value: Any) -> Any:
    return call("where", call("le", x, threshold), value, x)


def _elu(_: Recorder, call: Call, x: Var, alpha: Any = 1, scale: Any = 1, input_scale: Any = 1) -> Any:
    below = call("mul", call("mul", call("expm1", call("mul", x, input_scale)), alpha), scale)
    return call("where", call("le", x, 0), below, call("mul", x, scale))


def _celu(tape: Recorder, call: Call, x: Var, alpha: Any = 1.0) -> Any:
    return _elu(tape, call, x, alpha, 1, binary(tape, "div", 1.0, alpha))


def _softplus(_: Recorder, call: Call, x: Var, beta: Any = 1, threshold: Any = 20) -> Any:
    scaled = call("mul", x, beta)
    return call("where", call("gt", scaled, threshold), x, call("div", call("log1p", call("exp", scaled)), beta))


def _hardshrink(tape: Recorder, call: Call, x: Var, lambd: Any = 0.5) -> Any:
    inside = call("logical_and", call("ge", x, unary(tape, "neg", lambd)), call("le", x, lambd))
    return call("where", inside, 0, x)


def _softshrink(tape: Recorder, call: Call, x: Var, lambd: Any = 0.5) -> Any:
    tape.fail(binary(tape, "lt", lambd, 0).var, "softshrink: lambda has to be at least 0")
    inner = call("where", call("lt", x, unary(tape, "neg", lambd)), call("add", x, lambd), call("mul", x, 0))
    return call("where", call("gt", x, lambd), call("sub", x, lambd), inner)


def _scaled(tape: Recorder, call: Call, x: Var, factor: Any) -> Any:
    """x times a number that torch takes for "leave x out" where it is 0."""
    if not isinstance(factor, Num):
        return call("mul", x, factor)
    return call("where", call("ne", factor.var, 0), call("mul", x, factor), 0)


def _sum_with(op: str) -> Callable[..., Any]:
    """x + alpha * y, or x - alpha * y."""

    def make(_: Recorder, call: Call, x: Any, other: Any, alpha: Any = 1) -> Any:
        whole = not all(isinstance(v, Var) and v.meta.dtype.is_floating_point for v in (x, other))
        if not isinstance(alpha, Num) or (whole and alpha.kind is float):
            return NotImplemented
        return call(op, x, call("mul", other, alpha))

    return make


def _product(op: str) -> Callable[..., Any]:
    """beta * x + alpha * (a op b)."""

    def make(tape: Recorder, call: Call, x: Var, beta: Any = 1, alpha: Any = 1, **factors: Var) -> Any:
        if not x.meta.dtype.is_floating_point:
            return NotImplemented
        a, b = factors.values()
        return call("add", _scaled(tape, call, x, beta), call("mul", call(op, a, b), alpha))

    return make


def _addcmul(_: Recorder, call: Call, x: Var, tensor1: Var, tensor2: Var, value: Any = 1) -> Any:
    return call("add", x, call("mul", call("mul", tensor1, value), tensor2))


def _addcdiv(_: Recorder, call: Call, x: Var, tensor1: Var, tensor2: Var, value: Any = 1) -> Any:
    return call("add", x, call("mul", call("div", tensor1, tensor2), value))


def _pad(_: Recorder, call: Call, x: Var, pad: Any, mode: str = "constant", value: Any = None) -> Any:
    if mode != "constant":
        raise Refusal(f"pad takes no value in the mode {mode!r}")
    inside = call("constant_pad_nd", call("ones_like", x), pad, 0)
    return call("where", call("ne", inside, 0), call("constant_pad_nd", x, pad, 0), value)


def _new_full(_: Recorder, call: Call, x: Var, size: Any, fill_value: Any, **options: Any) -> Any:
    return call("fill_", call("new_zeros", x, size, **options), fill_value)


def _nan_to_num(tape: Recorder, call: Call, x: Var, nan: Any = None, posinf: Any = None, neginf: Any = None) -> Any:
    if isinstance(posinf, Num) or isinstance(neginf, Num):
        return NotImplemented
    return call("where", call("isnan", x), nan, call("nan_to_num", x, 0.0, posinf, neginf))


def _scatter(tape: Recorder, call: Call, x: Var, dim: int, index: Var, value: Any, **reduce: Any) -> Any:
    number = tape.cast(value.var, x.meta.dtype)
    return call("scatter", x, dim, index, call("expand", number, list(index.meta.shape)), **reduce)


def _logit(tape: Recorder, call: Call, x: Var, eps: Any = None) -> Any:
    z = call("clamp", x, eps, binary(tape, "sub", 1.0, eps))
    return call("log", call("div", z, call("rsub", z, 1)))


FORMS: dict[str, Callable[..., Any]] = {
    "add": _sum_with("add"),
    "addcdiv": _addcdiv,
    "addcmul": _addcmul,
    "addmm": _product("mm"),
    "addmv": _product("mv"),
    "baddbmm": _product("bmm"),
    "celu": _celu,
    "elu": _elu,
    "hardshrink": _hardshrink,
    "hardtanh": _hardtanh,
    "leaky_relu": _leaky_relu,
    "logit": _logit,
    "nan_to_num": _nan_to_num,
    "new_full": _new_full,
    "pad": _pad,
    "constant_pad_nd": _pad,
    "scatter": _scatter,
    "softplus": _softplus,
    "softshrink": _softshrink,
    "sub": _sum_with("sub"),
    "threshold": _threshold,
}
