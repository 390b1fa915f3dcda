"""Recurrent layers: one layer, one direction; capture composes them. Gate order is PyTorch's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from neve.ir.index import Index
from neve.ir.loops import Builder, Expr, Tensor, call, cast, const, guard
from neve.ir.types import Dim, DType, TensorType, dim, same
from neve.ops.base import Op, Sample
from neve.ops.checks import check, check_float, exact, finish, same_shape, wide, widened
from neve.ops.matmul import Linear
from neve.ops.samples import data, sample

Gate = Callable[[int], Expr]
"""Gate number → its value at an element of the state."""


class Recurrent(Op):
    """Inputs x (T, B, I), w_ih (G·H, I), w_hh (G·H, H), b_ih, b_hh (G·H,), h0 (B, H) [, c0 (B, H)]; G gates.

    Outputs y (T, B, H), h (B, H) [, c (B, H)]. The kernel of these classes takes gx, w_hh, b_hh, h0 [, c0] instead,
    with gx (T, B, G·H) = x · w_ihᵀ + b_ih.
    """

    reverse: bool
    gates: ClassVar[int]
    states: ClassVar[int] = 1

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        check(len(types) == 5 + self.states, self, f"{5 + self.states} inputs", types)
        check_float(self, types)
        x, w_ih, w_hh, b_ih, b_hh, h0 = types[:6]
        check(
            x.rank == 3 and w_ih.rank == w_hh.rank == h0.rank == 2,
            self,
            "x (T, B, I), w_ih (G·H, I), w_hh (G·H, H), h0 (B, H)",
            types,
        )
        check(x.shape[0] != 0, self, "at least one step", types)
        hidden = h0.shape[1]
        rows = dim(hidden * self.gates)
        check(
            same_shape(w_ih.shape, (rows, x.shape[2])) and same_shape(w_hh.shape, (rows, hidden)),
            self,
            f"w_ih ({rows}, {x.shape[2]}) and w_hh ({rows}, {hidden})",
            types,
        )
        check(all(same_shape(b.shape, (rows,)) for b in (b_ih, b_hh)), self, f"biases ({rows},)", types)
        check(
            same(h0.shape[0], x.shape[1]) and all(same_shape(t.shape, h0.shape) for t in types[6:]),
            self,
            "initial states (B, H)",
            types,
        )
        return (x.with_shape((x.shape[0], *h0.shape)), *(h0,) * self.states)

    def cell(self, gx: np.ndarray, gh: np.ndarray, state: list[np.ndarray]) -> list[np.ndarray]:
        """The next [h, c] for gates (B, G, H) from the input and from the state, biases included."""
        raise NotImplementedError

    def cell_expr(self, gx: Gate, gh: Gate, state: list[Expr]) -> list[Expr]:
        """`cell`, for one element."""
        raise NotImplementedError

    def eval(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        x, w_ih, w_hh, b_ih, b_hh, *state = (exact(a) for a in inputs)
        steps, batch, hidden = x.shape[0], x.shape[1], state[0].shape[1]
        y = np.zeros((steps, batch, hidden))
        with np.errstate(all="ignore"):
            for t in reversed(range(steps)) if self.reverse else range(steps):
                gx, gh = (
                    (a @ w.T + bias).reshape(batch, self.gates, hidden)
                    for a, w, bias in ((x[t], w_ih, b_ih), (state[0], w_hh, b_hh))
                )
                state = self.cell(gx, gh, state)
                y[t] = state[0]
        return tuple(a.astype(inputs[0].dtype) for a in (y, *state))

    def lower(self, b: Builder, *inputs: Tensor) -> tuple[Tensor, ...]:
        """The input's product for all steps as a Linear, then the kernel; or loops."""
        x, w_ih, w_hh, b_ih, b_hh, *state = inputs
        outs = self.infer(*(t.type for t in inputs))
        if b.refuses(self, inputs):
            return self.loops(b, *inputs)
        gx = finish(b, Linear().product(b, x, w_ih), wide(x.dtype), [b_ih])
        made = b.kernel(self, (gx, w_hh, b_hh, *state), widened(outs))
        return tuple(finish(b, y, x.dtype) for y in made)

    def loops(self, b: Builder, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Without a kernel: each step on its own, so the number of steps must be static."""
        x, w_ih, w_hh, b_ih, b_hh, *state = inputs
        steps = x.shape[0]
        if not isinstance(steps, int):
            raise ValueError(f"{self.name} in {x.dtype} wants a static number of steps, got {x.type}")
        acc = wide(x.dtype)
        rows, shape = w_hh.shape[0], state[0].shape
        gx = finish(b, Linear().loops(b, x, w_ih), acc, [b_ih])
        state = [finish(b, s, acc) for s in state]
        history: dict[int, Tensor] = {}
        for t in reversed(range(steps)) if self.reverse else range(steps):
            dots = b.reduce("sum", (shape[0], rows), acc, shape[1:], dot(state[0], w_hh, acc))
            gh = finish(b, dots, acc, [b_hh])
            state = [b.compute(shape, acc, self.step(gx, gh, state, t, shape[1], k)) for k in range(self.states)]
            history[t] = state[0]

        def pick(t: Index, *i: Index) -> Expr:
            out: Expr = history[0](*i)
            for k in range(1, steps):
                out = guard([(t - k, Index.of(1))], history[k](*i), out)
            return cast(out, x.dtype)

        y = b.compute((steps, *shape), x.dtype, pick)
        return (y, *(finish(b, s, x.dtype) for s in state))

    def step(self, gx: Tensor, gh: Tensor, state: list[Tensor], t: int, hidden: Dim, k: int) -> Callable[..., Expr]:
        """Element (batch, unit) of state k after step t."""
        size = Index.of(hidden)
        return lambda i, j: self.cell_expr(
            lambda g: gx(t, i, size * g + j), lambda g: gh(i, size * g + j), [s(i, j) for s in state]
        )[k]

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        for dtype in (DType.float32, DType.float64, DType.float16):
            for i, (t, batch, size, hidden) in enumerate([(5, 3, 4, 6), (1, 1, 1, 1), (4, 2, 7, 3)]):
                g = cls.gates * hidden
                shapes = [(t, batch, size), (g, size), (g, hidden), (g,), (g,), *[(batch, hidden)] * cls.states]
                inputs = [data(s, dtype, seed=5 * i + j, low=-1, high=1) for j, s in enumerate(shapes)]
                for op in cls.variants(i % 2 == 1):
                    yield sample(op, *inputs, dtypes=[dtype] * len(inputs))

    @classmethod
    def variants(cls, reverse: bool) -> list[Op]:
        """The op with each of its behaviours."""
        raise NotImplementedError


@dataclass(frozen=True)
class Rnn(Recurrent):
    """h = tanh or relu of (w_ih x + b_ih + w_hh h + b_hh); reverse runs from the last step to the first."""

    reverse: bool = False
    nonlinearity: str = "tanh"
    name: ClassVar[str] = "rnn"
    gates: ClassVar[int] = 1

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        check(self.nonlinearity in ("tanh", "relu"), self, f"tanh or relu (is {self.nonlinearity})", types)
        return super().infer(*types)

    def cell(self, gx: np.ndarray, gh: np.ndarray, state: list[np.ndarray]) -> list[np.ndarray]:
        y = (gx + gh)[:, 0]
        return [np.tanh(y) if self.nonlinearity == "tanh" else np.maximum(y, 0)]

    def cell_expr(self, gx: Gate, gh: Gate, state: list[Expr]) -> list[Expr]:
        y = call("add", gx(0), gh(0))
        return [call("tanh", y) if self.nonlinearity == "tanh" else call("maximum", y, const(0.0, y.dtype))]

    @classmethod
    def variants(cls, reverse: bool) -> list[Op]:
        return [cls(reverse), cls(reverse, "relu")]


@dataclass(frozen=True)
class Gru(Recurrent):
    """Gates r, z, n: n = tanh(w_in x + b_in + r · (w_hn h + b_hn)), h = (1 − z) · n + z · h."""

    reverse: bool = False
    name: ClassVar[str] = "gru"
    gates: ClassVar[int] = 3

    def cell(self, gx: np.ndarray, gh: np.ndarray, state: list[np.ndarray]) -> list[np.ndarray]:
        r, z = (logistic(gx[:, i] + gh[:, i]) for i in range(2))
        n = np.tanh(gx[:, 2] + r * gh[:, 2])
        return [(1 - z) * n + z * state[0]]

    @classmethod
    def variants(cls, reverse: bool) -> list[Op]:
        return [cls(reverse)]

    def cell_expr(self, gx: Gate, gh: Gate, state: list[Expr]) -> list[Expr]:
        r, z = (call("sigmoid", call("add", gx(i), gh(i))) for i in range(2))
        n = call("tanh", call("add", gx(2), call("mul", r, gh(2))))
        return [call("add", n, call("mul", z, call("sub", state[0], n)))]


@dataclass(frozen=True)
class Lstm(Recurrent):
    """Gates i, f, g, o: c = f · c + i · g, h = o · tanh(c)."""

    reverse: bool = False
    name: ClassVar[str] = "lstm"
    gates: ClassVar[int] = 4
    states: ClassVar[int] = 2

    def cell(self, gx: np.ndarray, gh: np.ndarray, state: list[np.ndarray]) -> list[np.ndarray]:
        i, f, o = (logistic(gx[:, k] + gh[:, k]) for k in (0, 1, 3))
        c = f * state[1] + i * np.tanh(gx[:, 2] + gh[:, 2])
        return [o * np.tanh(c), c]

    @classmethod
    def variants(cls, reverse: bool) -> list[Op]:
        return [cls(reverse)]

    def cell_expr(self, gx: Gate, gh: Gate, state: list[Expr]) -> list[Expr]:
        i, f, o = (call("sigmoid", call("add", gx(k), gh(k))) for k in (0, 1, 3))
        c = call("add", call("mul", f, state[1]), call("mul", i, call("tanh", call("add", gx(2), gh(2)))))
        return [call("mul", o, call("tanh", c)), c]


def logistic(x: np.ndarray) -> np.ndarray:
    return np.asarray(1 / (1 + np.exp(-x)))


def dot(h: Tensor, w: Tensor, acc: DType) -> Callable[[tuple[Index, ...], tuple[Index, ...]], Expr]:
    """Terms of h (B, H) · wᵀ."""
    return lambda i, k: call("mul", h(i[0], k[0]), cast(w(i[1], k[0]), acc))
