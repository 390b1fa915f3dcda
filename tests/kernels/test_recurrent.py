"""recurrent.h against torch's layers in float64, at edge sizes, with 1, 2 and 3 threads bit for bit."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch

from neve.build.target import AVX2, X86_64
from neve.ir.types import DType, round_to
from neve.kernels.kernel import Pack
from neve.kernels.recurrent.panels import GATES, RecurrentSpec, candidates, pack_recurrent
from tests.kernels import harness
from tests.kernels.harness import S

TARGETS = {"avx2": AVX2, "generic": X86_64}
TEMPLATE = """
#include "rt.h"
#include "vec.h"
#define KN(x) k{i}_##x
{macros}
#define K_STORE(v, t, b, j) vstore((float *)p[7] + ((t) * (int64_t)({B}) + (b)) * {H} + (j), v)
#define K_STORE_N(v, cnt, t, b, j) vstore_n((float *)p[7] + ((t) * (int64_t)({B}) + (b)) * {H} + (j), v, cnt)
#include "recurrent/recurrent.h"
"""


@dataclass(frozen=True)
class Problem:
    kind: str
    t: int
    b: int
    h: int
    bias: bool = True
    initial: bool = True
    reverse: bool = False
    batch_first: bool = False
    symbolic: bool = False
    weight_type: DType = DType.float32

    def spec(self) -> RecurrentSpec:
        width = GATES[self.kind] * self.h
        t, b = (S[0], S[1]) if self.symbolic else (self.t, self.b)
        x_step, x_batch = (width, width * t) if self.batch_first else (width * b, width)
        return RecurrentSpec(
            self.kind,
            t,
            b,
            self.h,
            x_step,
            x_batch,
            self.bias,
            self.initial,
            True,
            self.reverse,
            batch_bound=self.b,
            steps_bound=self.t,
            weight_type=self.weight_type,
        )


def unit(c: Problem, i: int, isa: str) -> tuple[str, int]:
    """C source of instance i and its shared bytes."""
    choice = candidates(c.spec(), TARGETS[isa])[0]
    lines = harness.defines(choice.macros)
    return TEMPLATE.format(i=i, macros=lines, B="s[1]" if c.symbolic else c.b, H=c.h), choice.shared


def reference(
    c: Problem, gates: np.ndarray, weight: np.ndarray, bias: np.ndarray, h: np.ndarray, cell: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """PyTorch's formulas in float64: outputs (t, b, h), final h, final c."""

    def sigmoid(x: np.ndarray) -> np.ndarray:
        return np.asarray(1 / (1 + np.exp(-x)))

    out = np.zeros((c.t, c.b, c.h))
    for t in reversed(range(c.t)) if c.reverse else range(c.t):
        x = np.split(gates[t], GATES[c.kind], -1)
        y = np.split(h @ weight.T + bias, GATES[c.kind], -1)
        if c.kind == "gru":
            r, z = sigmoid(x[0] + y[0]), sigmoid(x[1] + y[1])
            n = np.tanh(x[2] + r * y[2])
            h = (1 - z) * n + z * h
        elif c.kind == "lstm":
            i, f, o = (sigmoid(x[g] + y[g]) for g in (0, 1, 3))
            cell = f * cell + i * np.tanh(x[2] + y[2])
            h = o * np.tanh(cell)
        else:
            h = np.tanh(x[0] + y[0]) if c.kind == "tanh" else np.maximum(x[0] + y[0], 0)
        out[t] = h
    return out, h, cell


PROBLEMS = [
    Problem("gru", 5, 1, 1),
    Problem("gru", 4, 1, 16),
    Problem("gru", 7, 1, 40, reverse=True),
    Problem("gru", 3, 5, 33, batch_first=True),
    Problem("gru", 6, 2, 100, symbolic=True),
    Problem("gru", 0, 2, 8),
    Problem("lstm", 5, 1, 8),
    Problem("lstm", 6, 1, 27, reverse=True),
    Problem("lstm", 4, 4, 48, batch_first=True, symbolic=True),
    Problem("lstm", 3, 3, 10, bias=False, initial=False),
    Problem("tanh", 5, 1, 70),
    Problem("relu", 4, 3, 35, reverse=True),
    Problem("tanh", 2, 2, 5, initial=False),
    *(
        Problem(kind, 3, b, 21, weight_type=half)
        for kind, b in (("gru", 1), ("lstm", 2), ("relu", 3))
        for half in (DType.float16, DType.bfloat16)
    ),
]


def arrays(c: Problem, vl: int) -> tuple[list[np.ndarray | None], tuple[np.ndarray, ...]]:
    """p[0]..p[4], and gates (t, b, ·), weight, bias, h0, c0 in float64."""
    rng = np.random.default_rng(c.h)
    width = GATES[c.kind] * c.h
    gates = rng.normal(size=(c.t, c.b, width)).astype(np.float32)
    weight = round_to(rng.normal(size=(width, c.h)) / c.h**0.5, c.weight_type).astype(np.float32)
    bias, h, cell = (rng.normal(size=n).astype(np.float32) for n in ((width,), (c.b, c.h), (c.b, c.h)))
    p: list[np.ndarray | None] = [
        np.ascontiguousarray(gates.swapaxes(0, 1)) if c.batch_first else gates,
        Pack(pack_recurrent, (c.kind, vl, c.weight_type)).array(weight, c.weight_type),
        bias if c.bias else None,
        h if c.initial else None,
        cell if c.initial else None,
    ]
    keep = (gates, weight, bias * c.bias, h * c.initial, cell * c.initial)
    return p, tuple(x.astype(np.float64) for x in keep)


@pytest.mark.parametrize(("compiler", "isa"), [("gcc", "avx2"), ("zig", "avx2"), ("gcc", "generic")])
def test_recurrent(compiler: str, isa: str) -> None:
    units = [unit(c, i, isa) for i, c in enumerate(PROBLEMS)]
    kernels = harness.load_all(
        "".join(u for u, _ in units), compiler, tuple(f"k{i}_run" for i in range(len(units))), isa
    )
    for i, c in enumerate(PROBLEMS):
        p, exact = arrays(c, TARGETS[isa].vl)
        out, h, cell = reference(c, *exact)
        first: list[np.ndarray] = []
        for threads in (1, 2, 3):
            results = [
                np.full((c.b, c.h), 777, np.float32),
                np.full((c.b, c.h), 777, np.float32),
                np.full((c.t, c.b, c.h), 777, np.float32),
            ]
            kernels[f"k{i}_run"]([*p, *results], (c.t, c.b), threads, 0, units[i][1])
            np.testing.assert_allclose(results[2], out, rtol=1e-5, atol=3e-6, err_msg=str(c))
            np.testing.assert_allclose(results[0], h, rtol=1e-5, atol=3e-6, err_msg=str(c))
            if c.kind == "lstm":
                np.testing.assert_allclose(results[1], cell, rtol=1e-5, atol=3e-6, err_msg=str(c))
            first = first or results
            assert all((a == b).all() for a, b in zip(first, results, strict=True)), (
                f"{c}: depends on the number of threads"
            )


@pytest.mark.parametrize("kind", ["gru", "lstm", "tanh", "relu"])
def test_reference_is_torch(kind: str) -> None:
    c = Problem(kind, 4, 2, 6)
    torch.manual_seed(0)
    layer = {"gru": torch.nn.GRU, "lstm": torch.nn.LSTM}.get(kind, torch.nn.RNN)(
        3, 6, **({"nonlinearity": kind} if kind in ("tanh", "relu") else {})
    ).double()
    x, h, cell = torch.randn(4, 2, 3).double(), torch.randn(1, 2, 6).double(), torch.randn(1, 2, 6).double()
    with torch.no_grad():
        expected, final = layer(x, (h, cell) if kind == "lstm" else h)
        gates = (x @ layer.weight_ih_l0.T + layer.bias_ih_l0).numpy()
        out, hn, cn = reference(
            c, gates, layer.weight_hh_l0.numpy(), layer.bias_hh_l0.numpy(), h[0].numpy(), cell[0].numpy()
        )
    np.testing.assert_allclose(out, expected.numpy(), atol=1e-12)
    np.testing.assert_allclose(hn, (final[0] if kind == "lstm" else final)[0].numpy(), atol=1e-12)
    if kind == "lstm":
        np.testing.assert_allclose(cn, final[1][0].numpy(), atol=1e-12)


def test_spec_is_checked() -> None:
    with pytest.raises(ValueError, match="no recurrent cell"):
        RecurrentSpec("sru", 1, 1, 1, 1, 1)
    with pytest.raises(ValueError, match="batch_bound"):
        RecurrentSpec("gru", 1, "s[0]", 1, 1, 1)
