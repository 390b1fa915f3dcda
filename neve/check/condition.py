"""How far a result may be off: values that are determined to the last bit, and how far a model's results move when its
inputs and weights move by a rounding.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import torch
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from neve.check.verify import Result, relative_error
from neve.ir.graph import Graph, Node, Value
from neve.ir.interpret import Sizes, Watch, bind, learn
from neve.ir.types import round_to

NUDGES = 3
MANY_NUDGES = 48
"""Where only one of both raises: whether a matrix is singular, or positive-definite, may hang on single roundings."""
NO_DIGIT = 0.1
"""A relative move by which no digit of a result is determined."""
SIGNS = ((1,), (-1,), (1, -1))
"""In which directions the steps of a graph are off, in turn."""
MARGIN = 4.0
"""A difference is explained if it is at most so many times as large as what a rounding of inputs and weights does."""
ROUNDER = 2.5
"""How much more the kernels may round than ATen: their functions are within 5 ulp (kernels/math_f32_body.h), ATen's
mostly within 2. So much of the model's own distance from double precision counts as a move.
"""

EXACT = frozenset(
    """
    abs add all amax amin any arange argmax argmin as_strided as_strided_scatter bitwise_and bitwise_left_shift
    bitwise_not bitwise_or bitwise_right_shift bitwise_xor cast cat ceil clamp constant constant_pad copysign cummax
    cummin diag_embed diagonal diagonal_scatter div embedding eq expand flip floor floor_divide fmax fmin fmod full
    gather gcd ge gt index index_put index_select isinf isnan le leaky_relu logical_and logical_not logical_or
    logical_xor lt masked_scatter max_pool maximum minimum mul ne neg nextafter permute read_state reciprocal
    reflection_pad relu remainder repeat replication_pad reshape roll round searchsorted sign signbit size slice
    slice_scatter sub tril triu trunc trunc_divide unfold where write_state
    """.split()  # noqa: SIM905 (a list of one a line)
)
"""Ops whose results IEEE 754, or integer arithmetic, determines; sums of integers come in addition. Not sqrt: ATen's is
MKL's, which is not always correctly rounded (rsqrt is 1 / sqrt, each rounded once)."""
ROUNDING = frozenset({"add", "div", "mul", "reciprocal", "sub"})
"""Those of EXACT that round."""
NOT_COMPUTED = frozenset({"if", "raise", "while"})
CANCELLING = frozenset({"gelu", "gelu_tanh"})
"""What ATen computes by 1 + erf (or tanh), of which nothing is left for negative inputs; the kernels keep it."""
JUMPS = frozenset({"ceil", "floor", "floor_divide", "fmod", "remainder", "round", "sign", "trunc", "trunc_divide"})
WHOLE = frozenset({"sum", "prod", "cumsum", "cumprod", "matmul"})


def unmoved(graph: Graph) -> list[bool]:
    """For each output whether no rounding excuses a difference: inputs and state determine it to the last bit, and it
    is no float, or comes from a step that turns a rounding into another number. A sum with a product may be one of
    ATen's fused ones (add with alpha, addcmul, lerp), which it rounds once or twice by the processor.
    """
    exact, stepped, products = set(graph.inputs), set[Value](), set[Value]()
    for node in graph.nodes:
        fused = node.op.name in ("add", "sub") and any(v in products for v in node.inputs)
        if all(v in exact for v in node.inputs) and _exact(node) and not fused:
            exact.update(node.outputs)
        if node.op.name == "mul" and node.outputs[0].dtype.is_float:
            products.update(node.outputs)
        if node.op.name in JUMPS or any(v in stepped or not v.dtype.is_float for v in node.inputs):
            stepped.update(node.outputs)
    return [v in exact and (v in stepped or not v.dtype.is_float) for v in graph.outputs]


def _exact(node: Node) -> bool:
    if node.op.name in WHOLE:
        return not any(v.dtype.is_float for v in (*node.inputs, *node.outputs))
    return node.op.name in EXACT


def distance(got: Result, want: Result) -> list[float]:
    """The error of each output as `relative_error`; of integers and bools the share of elements that differ. Infinite
    throughout if only one of both raised, or their numbers differ.
    """
    if isinstance(got, Exception) or isinstance(want, Exception) or len(got) != len(want):
        return [float("inf")]
    return [_error(x, y) for x, y in zip(got, want, strict=True)]


def _error(got: np.ndarray, want: np.ndarray) -> float:
    if got.shape != want.shape:
        return float("inf")
    if want.dtype.kind == "f":
        return relative_error(got, want)
    return float((got != want).mean()) if want.size else 0.0


def largest(a: np.ndarray) -> float:
    """The largest finite magnitude in an array of floats, 0 of others."""
    return float(np.abs(a[np.isfinite(a)]).max(initial=0.0)) if a.dtype.kind == "f" else 0.0


def beside(errors: list[float], want: Result, usual: Sequence[float]) -> list[float]:
    """Errors relative to the largest value that an output usually has, where that is larger than what it has now: of
    inputs that are zero, norms give what rounding left of a difference, divided by next to nothing.
    """
    if isinstance(want, Exception) or not len(errors) == len(want) == len(usual):
        return errors
    found = []
    for e, a, scale in zip(errors, want, usual, strict=True):
        now = largest(a)
        found.append(e * (now or 1.0) / scale if a.dtype.kind == "f" and scale > now else e)
    return found


def nudged(value: Any, g: torch.Generator) -> Any:
    """A tensor of floats with every element moved up or down by about a unit in its last place; anything else as it
    is.
    """
    if isinstance(value, torch.Tensor) and value.is_complex():
        return torch.view_as_complex(nudged(torch.view_as_real(value.resolve_conj()), g))
    if not isinstance(value, torch.Tensor) or not value.is_floating_point() or value.numel() == 0:
        return value
    signs = torch.randint(2, value.shape, generator=g).to(torch.float64) * 2 - 1
    # three quarters of eps: less would be rounded away for values just above a power of two
    moved = value.detach().to(torch.float64) * (1 + signs * 0.75 * torch.finfo(value.dtype).eps)
    return moved.to(value.dtype)


def in_double(value: Any) -> Any:
    """A tensor of floats in double precision; anything else as it is."""
    if not isinstance(value, torch.Tensor):
        return value
    return value.detach().to(DOUBLE.get(value.dtype, torch.float64 if value.is_floating_point() else value.dtype))


DOUBLE = {torch.float32: torch.float64, torch.complex64: torch.complex128}


class InDouble(TorchFunctionMode):
    """While active, a model that asks for single precision by name gets double."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        func = torch.Tensor.double if func is torch.Tensor.float else func
        args, kwargs = pytree.tree_map(
            lambda x: DOUBLE.get(x, x) if isinstance(x, torch.dtype) else x, (args, kwargs or {})
        )
        return func(*args, **kwargs)


def double_model(model: Any) -> Any:
    """A copy of a model in double precision; the model itself if it cannot be copied."""
    if isinstance(model, torch.nn.Module):
        with suppress(Exception):  # models that cannot be copied: inputs alone are in double
            return copy.deepcopy(model).double()
    return model


def out_of_range(got: Result, want: Result, wide: Result) -> Result:
    """got, with want's elements where these are Inf or NaN but those of wide, the same in double precision, are
    finite: the original has left the range of its type on the way (a square that overflows), so nothing is determined.
    """
    if any(isinstance(r, Exception) for r in (got, want, wide)) or not len(got) == len(want) == len(wide):  # type: ignore[arg-type]
        return got
    return [_within(*parts) for parts in zip(got, want, wide, strict=True)]  # type: ignore[arg-type]


def _within(got: np.ndarray, want: np.ndarray, wide: np.ndarray) -> np.ndarray:
    if want.dtype.kind != "f" or not got.shape == want.shape == wide.shape:
        return got
    return np.where(~np.isfinite(want) & np.isfinite(wide), want, got)


def nudged_model(model: Any, g: torch.Generator) -> Any:
    """A copy of a model with all floating-point weights nudged; the model itself if it cannot be copied."""
    if not isinstance(model, torch.nn.Module):
        return model
    with suppress(Exception):  # models that cannot be copied: inputs alone are moved
        made = copy.deepcopy(model)
        with torch.no_grad():
            for t in _weights(made):
                t.copy_(nudged(t, g))
        return made
    return model


def _weights(model: torch.nn.Module) -> Iterator[torch.Tensor]:
    seen: set[int] = set()
    for t in (*model.parameters(), *model.buffers()):
        if t.is_floating_point() and t.data_ptr() not in seen:
            seen.add(t.data_ptr())
            yield t.data


def explained(errors: Sequence[float], moves: Sequence[Sequence[float]]) -> list[bool]:
    """For each output whether its error is within MARGIN of the largest of the moves of the original."""
    moves = [m for m in moves if len(m) == len(errors)]
    return [e <= MARGIN * max((m[k] for m in moves), default=0.0) for k, e in enumerate(errors)]


def moved(want: np.ndarray, plain: np.ndarray | None, other: np.ndarray | None) -> np.ndarray:
    """want, moved as plain has moved to become other; as it is where that is not known."""
    if plain is None or other is None or want.dtype.kind != "f" or not want.shape == plain.shape == other.shape:
        return want
    with np.errstate(invalid="ignore"):
        return np.asarray(want + (other.astype(np.float64) - plain), want.dtype)


def rounded_otherwise(sizes: Sizes, g: torch.Generator, signs: Sequence[int]) -> Watch:
    """For the interpreter: what every step that rounds gives is off by about a unit in its last place, half types
    before they are rounded. So a step's result, on which the next one depends, moves by itself, which no nudge of the
    model's inputs may do. signs: which of up (1) and down (-1) are drawn; rows that are alike are off alike.
    """
    known = dict(sizes)

    def watch(node: Node, ins: Sequence[np.ndarray], outs: Sequence[np.ndarray]) -> Sequence[np.ndarray] | None:
        learn(node, ins, known)
        if node.op.name in EXACT - ROUNDING or node.op.name in NOT_COMPUTED or not outs:
            return None
        if node.op.name in CANCELLING:
            return [a + _off(x, g, signs) for x, a in zip(ins, outs, strict=True)]
        halves = [v.dtype.is_float and v.dtype.size == 2 for v in node.outputs]
        if any(halves):
            wide = bind(node.op, known).eval(*(a.astype(np.float32) if a.dtype == np.float16 else a for a in ins))
            moved = [w + 16 * _off(np.asarray(w), g, signs) for w in wide]
            return [
                round_to(w, v.dtype) if h else a for w, v, h, a in zip(moved, node.outputs, halves, outs, strict=True)
            ]
        return [a + _off(a, g, signs) for a in outs]

    return watch


def _off(a: np.ndarray, g: torch.Generator, signs: Sequence[int]) -> np.ndarray:
    """By how much values are off: about a unit in the last place of floats, up or down."""
    if a.dtype.kind != "f":
        return np.zeros_like(a)
    drawn = torch.randint(len(signs), a.shape, generator=g).numpy()
    with np.errstate(all="ignore"):
        off = a * (np.asarray(signs)[drawn] * 0.75 * np.finfo(a.dtype).eps)
    return np.asarray(np.where(np.isfinite(off), off, 0), a.dtype)
