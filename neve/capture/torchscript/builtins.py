"""What TorchScript's code calls: torch.NAME on whatever values, ops.prim.NAME, int(), float(), bool(), and the like."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch

from neve.capture import prints
from neve.capture.torchscript import containers, entries, masked, packed, prepacked, tensors
from neve.capture.torchscript.control import same, size_tensor
from neve.capture.torchscript.numbers import BINARY, COMPARISONS, UNARY, binary, convert, is_number, kind_of, unary
from neve.capture.torchscript.pickles import Member, Obj
from neve.capture.torchscript.schema import call_op, dtype_number
from neve.capture.torchscript.upgrades import upgraded
from neve.capture.torchscript.values import (
    Bound,
    Dim,
    Forked,
    Grown,
    Named,
    Num,
    Packed,
    PackedSizes,
    Raised,
    Refusal,
    Text,
    Var,
    describe,
    entries_in,
    needs_of,
)

if TYPE_CHECKING:
    from neve.capture.torchscript.machine import Machine

TEXTUAL = (str, Text, torch.device)


def call_torch(m: Machine, name: str, args: list[Any], kwargs: dict[str, Any]) -> Any:
    """torch.NAME(…). Refusal if it is no op, or not with these arguments."""
    grows = _grown(m, name, args, kwargs)
    if grows is not NotImplemented:
        return grows
    special = TORCH.get(name)
    if special is not None:
        result = special(m, *args, **kwargs)
        if result is not NotImplemented:
            return result
    if not kwargs and args and all(is_number(a) for a in args):
        if name in BINARY and len(args) == 2:
            return binary(m.tape, name, *args)
        if name in UNARY and len(args) == 1:
            return unary(m.tape, name, *args)
    if args and isinstance(args[0], Text):
        raise Refusal(f"{name} of a string that depends on the inputs", args[0].needs)
    if args and isinstance(args[0], (list, dict, str, tuple)) and name in containers.METHODS:
        return containers.METHODS[name](m, *args, **kwargs)
    name, args, kwargs = upgraded(m.version, name, args, kwargs)
    special = tensors.SPECIAL.get(name)
    if special is not None:
        result = special(m, *args, **kwargs)
        if result is not NotImplemented:
            return result
    return call_op(m.tape, "aten", name, args, kwargs)


def _grown(m: Machine, name: str, args: list[Any], kwargs: dict[str, Any]) -> Any:
    """torch.NAME(…) where the length of a list or tensor among the arguments is the run's; else NotImplemented."""
    if name in ("__is__", "__isnot__"):
        return NotImplemented
    values = (*args, *kwargs.values())
    lists = [v for v in values if entries_in(v) is not None]
    if any(isinstance(v, (Packed, PackedSizes)) for v in values):
        return packed.call(m, name, args, kwargs)
    if lists:
        return entries.call(m, name, args, kwargs)
    if any(isinstance(x, Grown) for v in values for x in (v if isinstance(v, (list, tuple)) else [v])):
        return masked.call(m, name, args, kwargs)
    return NotImplemented


def call_builtin(m: Machine, path: str, args: list[Any], kwargs: dict[str, Any]) -> Any:
    """A function that is not in torch or the archive: ops.NAMESPACE.NAME, int, float, …."""
    if any(isinstance(a, (Packed, PackedSizes)) for a in args):
        return packed.call(m, path.rpartition(".")[2], args, kwargs)
    if any(isinstance(a, Grown) for a in args):
        return masked.call(m, path.rpartition(".")[2], args, kwargs)
    if path in BUILTINS:
        return BUILTINS[path](m, *args, **kwargs)
    parts = path.split(".")
    if len(parts) == 3 and parts[0] == "ops":
        _, namespace, name = parts
        if namespace == "prepacked":
            return prepacked.call(m.tape, name, args)
        if namespace == "prim":
            if name in PRIM:
                return PRIM[name](m, *args, **kwargs)
            if all(is_number(a) for a in args) and (name in BINARY or name in UNARY):
                return call_torch(m, name, args, kwargs)
            raise Refusal(f"prim::{name} is not supported")
        if namespace.startswith("quantized") or "quantized" in name:
            raise Refusal(f"{namespace}::{name}: quantized models are not supported yet")
        return call_op(m.tape, namespace, name, args, kwargs)
    raise Refusal(f"the function {path} is not supported")


# Numbers from anything.


def _cast(kind: type) -> Callable[..., Any]:
    def cast(m: Machine, value: Any) -> Any:
        if isinstance(value, Var):
            return tensors.item(m, value, kind)
        if isinstance(value, str):
            try:
                return kind(value) if kind is not bool else bool(value)
            except ValueError as error:
                raise Raised(str(error)) from error
        if not is_number(value):
            raise Refusal(f"{kind.__name__}({describe(value)}) is not supported")
        return convert(m.tape, value, kind)

    return cast


def _str(m: Machine, value: Any) -> Any:
    return containers.shown(value)


def _raise(m: Machine, message: Any = "", *_: Any) -> None:
    text = message.text if isinstance(message, Text) else message if isinstance(message, str) else describe(message)
    raise Raised(text)


def _print(m: Machine, *args: Any, **kwargs: Any) -> None:
    place = m.tape.place
    prints.note(f"{place[1]}:{place[2]}" if place else "")


def _nothing(m: Machine, *args: Any, **kwargs: Any) -> None:
    return None


def _dtype(m: Machine, x: Var) -> int:
    return dtype_number(x.meta.dtype)


def _num_to_tensor(m: Machine, value: Any) -> Any:
    if isinstance(value, Num):
        return value.var
    if isinstance(value, Dim):
        return size_tensor(m, value)
    kind = type(value)
    return m.tape.number(value, kind) if is_number(value) else value


def _extreme(name: str) -> Callable[..., Any]:
    def extreme(m: Machine, *args: Any) -> Any:
        items = list(args[0]) if len(args) == 1 and isinstance(args[0], (list, tuple)) else list(args)
        if not items:
            raise Raised(f"{name}() of an empty list")
        result = items[0]
        for item in items[1:]:
            result = binary(m.tape, name, result, item) if is_number(item) else call_torch(m, name, [result, item], {})
        return result

    return extreme


def _fork(m: Machine, function: Any, *args: Any, **kwargs: Any) -> Any:
    if isinstance(function, Forked) and not args:
        return m.forked(function)
    if not isinstance(function, Bound):
        raise Refusal(f"fork of {describe(function)} is not supported")
    return m.call(function.function, args if function.self is None else [function.self, *args], kwargs)


def _requires_grad(m: Machine, *_: Any) -> bool:
    return False


def _device(m: Machine, x: Any = None, index: Any = None) -> torch.device:
    """x.device, or torch.device(name): code may compare them, though everything is on the CPU."""
    if not isinstance(x, (str, torch.device)):
        return torch.device("cpu")
    try:
        return torch.device(x) if index is None else torch.device(str(x), index)
    except (RuntimeError, TypeError) as error:
        raise Raised(str(error)) from error


def _tolist(m: Machine, x: Var, *_: Any) -> Any:
    if x.meta.dim() == 0:
        kind = bool if x.meta.dtype is torch.bool else float if x.meta.dtype.is_floating_point else int
        return tensors.item(m, x, kind)
    if not isinstance(x.meta.shape[0], int):
        raise Refusal("tolist of a tensor whose length is not known")
    return [_tolist(m, m.torch("select", [x, 0, i], {})) for i in range(x.meta.shape[0])]


BUILTINS: dict[str, Callable[..., Any]] = {
    "int": _cast(int),
    "float": _cast(float),
    "bool": _cast(bool),
    "str": _str,
    "print": _print,
    "unwrap": lambda m, x: x,
    "fork": _fork,
    "awaitable": _fork,
    "wait": lambda m, x: x,
    "unchecked_unwrap_optional": lambda m, x: x,
    "device": _device,
    "sorted": containers.METHODS["sorted"],
}
PRIM: dict[str, Callable[..., Any]] = {
    "RaiseException": _raise,
    "Print": _print,
    "print": _print,
    "dtype": _dtype,
    "device": _device,
    "layout": lambda m, x: 0,
    "shape": tensors.size,
    "type": lambda m, device: device.type,
    "is_cuda": _requires_grad,
    "is_cpu": lambda m, x: True,
    "is_quantized": _requires_grad,
    "is_sparse": _requires_grad,
    "is_mkldnn": _requires_grad,
    "is_meta": _requires_grad,
    "is_nested": _requires_grad,
    "is_xla": _requires_grad,
    "is_vulkan": _requires_grad,
    "is_mps": _requires_grad,
    "requires_grad": _requires_grad,
    "data": lambda m, x: m.torch("detach", [x], {}),
    "ndim": lambda m, x: x.meta.dim(),
    "T": lambda m, x: m.torch("numpy_T", [x], {}),
    "itemsize": lambda m, x: x.meta.dtype.itemsize,
    "NumToTensor": _num_to_tensor,
    "unchecked_unwrap_optional": lambda m, x: x,
    "min": _extreme("min"),
    "max": _extreme("max"),
    "abs": lambda m, x: m.torch("abs", [x], {}),
    "tolist": _tolist,
    "rangelist": lambda m, n: list(range(containers.bounded(n, n))) if type(n) is int else containers.refuse_length(n),
    "StringIndex": lambda m, s, i: s[i],
    "TupleIndex": lambda m, t, i: t[i],
}


# torch.NAME that is not (only) an op.


def _is(m: Machine, a: Any, b: Any) -> Any:
    """Whether two values are one: numbers by their value, all else in memory."""
    if a is None or b is None or a is b:
        return a is b
    if is_number(a) and is_number(b) and kind_of(a) is kind_of(b):
        return binary(m.tape, "eq", a, b)
    if isinstance(a, Var) and isinstance(b, Var):
        known = (a.step is not None or b.step is not None) and b.root not in m.tape.may_be(a)[1:]
    elif isinstance(a, Member) and isinstance(b, Member):
        known = not isinstance(a.value, Num) and not isinstance(b.value, Num) and not same(a, b)  # torch makes copies
    else:
        known = isinstance(a, (list, dict, Obj)) and not m.heap.may_be(a, b)
    if not known:
        raise Refusal(f"it is not known whether {describe(a)} and {describe(b)} are one ('is')")
    return False


def _equal_values(m: Machine, a: Any, b: Any) -> Any:
    if isinstance(a, Var) or isinstance(b, Var) or (is_number(a) and is_number(b)):
        return NotImplemented
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)):
        if len(a) != len(b):
            return False
        result: Any = True
        for x, y in zip(a, b, strict=True):
            equal = call_torch(m, "eq", [x, y], {})
            if isinstance(equal, Var):
                equal = tensors.item(m, equal, bool)
            result = binary(m.tape, "__and__", result, equal)
        return result
    if isinstance(a, dict) and isinstance(b, dict):
        return (
            _equal_values(m, list(a.items()), list(b.items())) if list(a) == list(b) else a.keys() == b.keys() and NO()
        )
    if isinstance(a, Member) and isinstance(b, Member):
        return a.cls == b.cls and call_torch(m, "eq", [a.value, b.value], {})
    if isinstance(a, Text) or isinstance(b, Text):
        raise Refusal("a comparison of strings that depend on the inputs")
    return a == b


def NO() -> Any:  # noqa: N802
    raise Refusal("a comparison of dicts in different orders")


def _not_equal(m: Machine, a: Any, b: Any) -> Any:
    result = _equal_values(m, a, b)
    return result if result is NotImplemented else unary(m.tape, "__not__", result)


def _format(m: Machine, pattern: str, *args: Any) -> Any:
    parts = pattern.split("{}")
    filled = [containers.shown(a) for a in args]
    text = parts[0] + "".join(
        (f.text if isinstance(f, Text) else f) + p for f, p in zip(filled, parts[1:], strict=False)
    )
    return Text(text, needs_of(*filled)) if any(isinstance(f, Text) for f in filled) else text


def _percent(m: Machine, pattern: str, *args: Any) -> Any:
    values = args[0] if len(args) == 1 and isinstance(args[0], tuple) else args
    if re.search(r"\d{4}", pattern):
        raise Refusal(f"a format of more than 999 characters: {pattern[:40]!r}")
    if all(isinstance(a, (str, int, float, bool)) for a in values):
        try:
            return pattern % tuple(values)
        except (TypeError, ValueError) as error:
            raise Raised(str(error)) from error
    return Text(re.sub(r"%[-+ #0]*\d*(\.\d+)?[a-zA-Z]", "…", pattern), needs_of(*values))


def _add(m: Machine, a: Any, b: Any, *rest: Any, **kwargs: Any) -> Any:
    if isinstance(a, TEXTUAL) and isinstance(b, TEXTUAL):
        if isinstance(a, str) and isinstance(b, str):
            return a + b
        return Text("".join(x.text if isinstance(x, Text) else str(x) for x in (a, b)), needs_of(a, b))
    if isinstance(a, list) and isinstance(b, list):
        return a + b
    return NotImplemented


def _mul(m: Machine, a: Any, b: Any, *rest: Any, **kwargs: Any) -> Any:
    if isinstance(a, list) and type(b) is int:
        return a * containers.bounded(len(a) * max(b, 0), b)
    return NotImplemented


def _named(m: Machine, x: Any, i: Any) -> Any:
    if isinstance(x, Named):
        return x.items[i]
    return containers.getitem(m, x, i)


def _check(m: Machine, condition: Any, *_: Any) -> None:
    raise Refusal(f"an assertion of {describe(condition)} is not supported", needs_of(condition))


def _range_length(m: Machine, start: Any, stop: Any, step: Any) -> Any:
    """How many iterations range(start, stop, step) has."""
    if type(step) is not int:
        raise Refusal("the step of a range depends on the inputs", needs_of(step))
    if step == 0:
        raise Raised("range() arg 3 must not be zero")
    low, high = (start, stop) if step > 0 else (stop, start)
    way = binary(m.tape, "add", binary(m.tape, "sub", high, low), abs(step) - 1)
    return binary(m.tape, "max", binary(m.tape, "floordiv", way, abs(step)), 0)


def _derive_index(m: Machine, iteration: Any, start: Any, step: Any) -> Any:
    return binary(m.tape, "add", start, binary(m.tape, "mul", iteration, step))


TORCH: dict[str, Callable[..., Any]] = {
    "__range_length": _range_length,
    "__derive_index": _derive_index,
    "_pack_padded_sequence": packed.pack,
    "__is__": _is,
    "__isnot__": lambda m, a, b: unary(m.tape, "__not__", _is(m, a, b)),
    "eq": _equal_values,
    "ne": _not_equal,
    "format": _format,
    "percentFormat": _percent,
    "str": _str,
    "add": _add,
    "add_": lambda m, a, b, *r, **k: containers.extend(m, a, b) if isinstance(a, list) else NotImplemented,
    "mul": _mul,
    "warn": _nothing,
    "set_grad_enabled": _nothing,
    "is_grad_enabled": _requires_grad,
    "is_autocast_enabled": _requires_grad,
    "is_autocast_cpu_enabled": _requires_grad,
    "is_scripting": lambda m: True,
    "device": _device,
    "__getitem__": _named,
    "wait": lambda m, x: x,
    "unwrap": lambda m, x: x,
    "Int": _cast(int),
    "Float": _cast(float),
    "Bool": _cast(bool),
    "IntImplicit": _cast(int),
    "FloatImplicit": _cast(float),
    "NumToTensor": _num_to_tensor,
    "max": lambda m, *a, **k: _extreme("max")(m, *a) if a and isinstance(a[0], list) else NotImplemented,
    "min": lambda m, *a, **k: _extreme("min")(m, *a) if a and isinstance(a[0], list) else NotImplemented,
    "__not__": lambda m, x: unary(m.tape, "__not__", x) if is_number(x) else NotImplemented,
}
assert not COMPARISONS - BINARY.keys()
