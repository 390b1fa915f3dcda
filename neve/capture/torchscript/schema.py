"""Which overload of a torch op a call in TorchScript means, and its arguments as the dispatcher wants them.

An overload is chosen by the types of the arguments, against the schemas of the torch that is installed: never by the
version of the archive. Signatures that older releases had are brought up to date by `upgrades.py` first.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache, partial
from typing import Any

import torch

from neve.capture.torchscript.number_forms import form
from neve.capture.torchscript.numbers import convert, kind_of
from neve.capture.torchscript.tape import Recorder
from neve.capture.torchscript.values import Dim, Num, Refusal, Uninitialized, Var, describe, needs_of

SCALAR_TYPES: tuple[torch.dtype, ...] = (
    torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.float16, torch.float32, torch.float64,
    torch.complex32, torch.complex64, torch.complex128, torch.bool, torch.qint8, torch.quint8, torch.qint32,
    torch.bfloat16,
)  # fmt: skip
"""TorchScript's numbers of dtypes (c10::ScalarType)."""
LAYOUTS = (torch.strided, torch.sparse_coo, torch.sparse_csr)
MEMORY_FORMATS = (torch.contiguous_format, torch.preserve_format, torch.channels_last, torch.channels_last_3d)
NUMBERS = frozenset({"number", "Scalar"})
INTS = frozenset({"int", "SymInt"})
UNROUNDED = frozenset({"add", "sub", "mul", "div"})
"""What computes with a number as it is, not rounded to the half type of the tensor."""


def dtype_number(dtype: torch.dtype) -> int:
    """The number by which TorchScript knows a dtype."""
    return SCALAR_TYPES.index(dtype)


def dtype_of_number(number: Any) -> torch.dtype:
    if type(number) is not int or not 0 <= number < len(SCALAR_TYPES):
        raise Refusal(f"{describe(number)} is not the number of an element type")
    return SCALAR_TYPES[number]


class Parameter:
    """One parameter of a schema."""

    def __init__(self, argument: Any) -> None:
        self.name: str = argument.name
        self.type = str(argument.real_type)
        self.keyword: bool = argument.kwarg_only
        self.optional: bool = argument.has_default_value()


@cache
def overloads(namespace: str, name: str) -> tuple[tuple[Any, tuple[Parameter, ...]], ...]:
    """The overloads of an op that run in the dispatcher, without those that write into out=; () if there are none."""
    try:
        packet = getattr(getattr(torch.ops, namespace), name)
    except (AttributeError, RuntimeError):
        return ()
    found = []
    for overload in getattr(packet, "overloads", list)():
        op = getattr(packet, overload)
        full = op._schema.name + (f".{op._schema.overload_name}" if op._schema.overload_name else "")
        if torch._C._dispatch_has_kernel(full):
            parameters = tuple(Parameter(a) for a in op._schema.arguments)
            if not any(p.keyword and p.name.startswith("out") for p in parameters) and "out" not in {
                p.name for p in parameters if p.keyword and p.type == "Tensor"
            }:
                found.append((op, parameters))
    return tuple(found)


def fits(value: Any, type_: str, lenient: bool = False) -> bool:
    """Whether a value can be an argument of that schema type."""
    if type_.startswith("Optional["):
        return value is None or isinstance(value, Uninitialized) or fits(value, type_[9:-1], lenient)
    if type_.startswith("List["):
        inner = type_[5:-1]
        return isinstance(value, (list, tuple)) and all(fits(v, inner, lenient) for v in value)
    if type_ == "Tensor":
        return isinstance(value, Var)
    kind = value.kind if isinstance(value, (Num, Dim)) else type(value)
    if type_ in NUMBERS:
        return kind in (int, float, bool, complex)
    if type_ in INTS:
        return kind is int or (lenient and kind is bool)
    if type_ == "float":
        return kind is float or (lenient and kind is int)
    if type_ == "bool":
        return kind is bool
    if type_ == "str":
        return kind is str
    if type_ == "Device":
        return kind is torch.device or kind is str
    if type_ in ("ScalarType", "Layout", "MemoryFormat"):
        return kind is int
    return False


def bind(
    parameters: Sequence[Parameter], args: Sequence[Any], kwargs: Mapping[str, Any], lenient: bool
) -> dict[str, Any] | None:
    """Parameter → value, if the arguments fit."""
    places = [p for p in parameters if not p.keyword]
    if len(args) > len(places) or kwargs.keys() - {p.name for p in parameters}:
        return None
    bound = dict(zip((p.name for p in places), args, strict=False))
    if bound.keys() & kwargs.keys():
        return None
    bound |= kwargs
    for p in parameters:
        if p.name in bound:
            if not fits(bound[p.name], p.type, lenient):
                return None
        elif not p.optional:
            return None
    return bound


def choose(namespace: str, name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[Any, Any, Any]:
    """(overload, its parameters, bound arguments). Refusal if torch has no such op, or none that takes these."""
    candidates = overloads(namespace, name)
    if not candidates:
        raise Refusal(f"{namespace}::{name} is not an op of torch {torch.__version__}")
    for lenient in (False, True):
        for op, parameters in candidates:
            bound = bind(parameters, args, kwargs, lenient)
            if bound is not None:
                return op, parameters, bound
    got = ", ".join([*map(describe, args), *(f"{k}={describe(v)}" for k, v in kwargs.items())])
    schemas = "; ".join(re.sub(r"^\w+::", "", str(op._schema)) for op, _ in candidates[:4])
    raise Refusal(f"{namespace}::{name} does not take ({got}); it has {schemas}", needs_of(*args, *kwargs.values()))


def call_op(tape: Recorder, namespace: str, name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """Record a torch op on interpreter values."""
    op, parameters, bound = choose(namespace, name, args, kwargs)
    for p in parameters:
        if p.name in bound and _inner(p.type) in NUMBERS and kind_of(bound[p.name]) is bool:
            bound[p.name] = convert(tape, bound[p.name], int)  # so does TorchScript: torch.full([2], True) is of int64
    run_time = [p for p in parameters if _has_num(bound.get(p.name))]
    if run_time:
        made = form(tape, partial(_call, tape, namespace), name, bound)
        if made is not NotImplemented:
            return made
        op, parameters, bound = _with_tensors(tape, namespace, name, op, parameters, bound, run_time)
    given = {p.name: _converted(bound[p.name], p.type) for p in parameters if p.name in bound}
    for p in parameters:
        if p.type == "Optional[Device]" and "device" in given and given["device"] is not None:
            given["device"] = torch.device("cpu")
    positional = []
    for p in parameters:
        if p.keyword or p.name not in given:
            break
        positional.append(given.pop(p.name))
    return tape.call(op, *positional, **given)


def _call(tape: Recorder, namespace: str, name: str, *args: Any, **kwargs: Any) -> Any:
    return call_op(tape, namespace, name, args, kwargs)


def _inner(type_: str) -> str:
    return type_.removeprefix("Optional[").removesuffix("]") if type_.startswith("Optional[") else type_


def _has_num(value: Any) -> bool:
    return isinstance(value, Num) or (isinstance(value, (list, tuple)) and any(isinstance(v, Num) for v in value))


def _with_tensors(
    tape: Recorder, namespace: str, name: str, op: Any, parameters: Any, bound: Any, run_time: Sequence[Parameter]
) -> tuple[Any, Any, Any]:
    """The overload that takes tensors where this one takes numbers, since some are known at run time only."""
    tensors = [v for n, v in bound.items() if isinstance(v, Var) and n != "condition"]
    for p in run_time:
        if _inner(p.type) not in NUMBERS or p.name == "alpha":
            raise Refusal(
                f"{namespace}::{name} needs its {p.name!r} when the model is compiled, and it depends on the inputs",
                needs_of(bound[p.name]),
            )
    names = {p.name for p in run_time}
    for other, others in overloads(namespace, name):
        types = {p.name: p.type for p in others}
        if all(types.get(n, "").removeprefix("Optional[").removesuffix("]") == "Tensor" for n in names):
            dtype = torch.result_type(tensors[0].meta, bound[run_time[0].name].kind(1)) if tensors else None
            if name == "where" and dtype is None:
                kinds = {kind_of(v) for n, v in bound.items() if n != "condition"}
                dtype = torch.get_default_dtype() if float in kinds else torch.int64 if int in kinds else torch.bool
            if name in UNROUNDED and tensors[0].meta.dim():
                dtype = None if dtype in (torch.float16, torch.bfloat16) else dtype
            replaced = dict(bound)
            for n, value in bound.items():
                if n in names or (types.get(n, "").endswith(("Tensor", "Tensor]")) and _is_number(value)):
                    kind = value.kind if isinstance(value, Num) else type(value)
                    var = tape.number(value, kind)
                    replaced[n] = tape.cast(var, dtype) if dtype is not None else var
            if bind(others, (), replaced, False) is not None:
                return other, others, replaced
    raise Refusal(
        f"{namespace}::{name} takes a number that depends on the inputs, and has no form with a tensor in its place",
        needs_of(*(bound[n] for n in names)),
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, (Num, bool, int, float))


def _converted(value: Any, type_: str) -> Any:
    """An argument as torch's Python binding takes it."""
    inner = _inner(type_)
    if value is None or isinstance(value, Uninitialized):
        return None
    if inner == "ScalarType":
        return dtype_of_number(value)
    if inner == "Layout":
        return LAYOUTS[value] if 0 <= value < len(LAYOUTS) else None
    if inner == "MemoryFormat":
        return MEMORY_FORMATS[value] if 0 <= value < len(MEMORY_FORMATS) else None
    if inner == "Device":
        return torch.device("cpu")
    if isinstance(value, Dim):
        return value.var
    if inner.startswith("List[") and isinstance(value, (list, tuple)):
        return [_converted(v, inner[5:-1]) for v in value]
    return value
