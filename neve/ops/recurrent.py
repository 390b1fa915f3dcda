"""Recurrent layers: one layer, one direction; capture composes them. Gate order is PyTorch's."""
from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from neve.ir.types import TensorType, dim, same
from neve.ops.base import Op
from neve.ops.checks import check, check_float, same_shape


class Recurrent(Op):
    """Inputs x (T, B, I), w_ih (G·H, I), w_hh (G·H, H), b_ih, b_hh (G·H,), h0 (B, H) [, c0 (B, H)]; outputs y (T, B, H), h (B, H) [, c (B, H)]."""

    gates: ClassVar[int]
    states: ClassVar[int] = 1

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        check(len(types) == 5 + self.states, self, f"{5 + self.states} inputs", types)
        check_float(self, types)
        x, w_ih, w_hh, b_ih, b_hh, h0 = types[:6]
        check(x.rank == 3 and w_ih.rank == w_hh.rank == h0.rank == 2, self, "x (T, B, I), w_ih (G·H, I), w_hh (G·H, H), h0 (B, H)", types)
        hidden = h0.shape[1]
        rows = dim(hidden * self.gates)
        check(same_shape(w_ih.shape, (rows, x.shape[2])) and same_shape(w_hh.shape, (rows, hidden)), self,
              f"w_ih ({rows}, {x.shape[2]}) and w_hh ({rows}, {hidden})", types)
        check(all(same_shape(b.shape, (rows,)) for b in (b_ih, b_hh)), self, f"biases ({rows},)", types)
        check(same(h0.shape[0], x.shape[1]) and all(same_shape(t.shape, h0.shape) for t in types[6:]), self, "initial states (B, H)", types)
        return (x.with_shape((x.shape[0], *h0.shape)), *(h0,) * self.states)


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


@dataclass(frozen=True)
class Gru(Recurrent):
    """Gates r, z, n: n = tanh(w_in x + b_in + r · (w_hn h + b_hn)), h = (1 − z) · n + z · h."""

    reverse: bool = False
    name: ClassVar[str] = "gru"
    gates: ClassVar[int] = 3


@dataclass(frozen=True)
class Lstm(Recurrent):
    """Gates i, f, g, o: c = f · c + i · g, h = o · tanh(c)."""

    reverse: bool = False
    name: ClassVar[str] = "lstm"
    gates: ClassVar[int] = 4
    states: ClassVar[int] = 2
