"""Models with pruned layers: which of them run on sparse weights, and that they give what eager gives."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

import neve
from neve.build.target import native
from neve.build.toolchain import build
from neve.emit.program import emit
from neve.ir.graph import Method, Program
from neve.ops.base import Sample
from neve.ops.conv import Conv
from neve.ops.matmul import Linear
from neve.runtime.loader import open_library
from tests.emit.programs import FAST, as_graph
from tests.kernels.test_sparse import INF, NAN, pruned


def prune(weight: torch.Tensor, rows: int = 4, kept: float = 0.1) -> None:
    """Zeros in all but that share of the blocks of `rows` outputs."""
    blocks = torch.rand(-(-len(weight) // rows), weight[0].numel()) < kept
    with torch.no_grad():
        weight *= blocks.repeat_interleave(rows, 0)[: len(weight)].reshape(weight.shape)


class Products(nn.Module):
    """A linear layer with a long epilogue, one of a half type, a product with a constant, one not pruned."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.low, self.dense = nn.Linear(96, 130), nn.Linear(130, 64, dtype=torch.bfloat16), nn.Linear(64, 32)
        self.register_buffer("mix", torch.randn(70, 64))
        for w in (self.up.weight, self.low.weight, self.mix.T):
            prune(w)

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        a = self.low(nn.functional.gelu(self.up(x)).bfloat16()).float()
        return self.dense(a + torch.relu(y @ self.mix))


class Squeezed(nn.Module):
    """Convolutions of single pixels: after one that leaves channels last, with factors, with a residual sum; and one of
    more pixels.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.up, self.down = nn.Conv2d(8, 64, 3), nn.Conv2d(64, 96, 1), nn.Conv2d(96, 64, 1, bias=False)
        self.gate = nn.Conv2d(96, 96, 1)
        self.far = nn.Conv2d(64, 40, 3, stride=2, padding=2, dilation=2)
        for layer in (self.up, self.down, self.far):
            prune(layer.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        y = nn.functional.silu(self.up(x))
        return self.far(x + self.down(y * torch.sigmoid(self.gate(y.mean((2, 3), keepdim=True)))))


def prods(batch: int) -> tuple[torch.Tensor, ...]:
    return torch.randn(batch, 40, 96), torch.randn(batch, 40, 70)


def images(batch: int) -> tuple[torch.Tensor, ...]:
    return (torch.randn(batch, 8, 20, 20),)


def same(net: nn.Module, module: neve.Module, args: tuple[torch.Tensor, ...], tolerance: float) -> None:
    with torch.no_grad():
        want = net(*args).numpy()
    got = np.asarray(module(*args))
    np.testing.assert_array_equal(np.isfinite(got), np.isfinite(want))
    finite = np.isfinite(want)
    np.testing.assert_array_equal(got[~finite], want[~finite])
    np.testing.assert_allclose(got[finite], want[finite], atol=tolerance * np.abs(want[finite]).max(initial=1))


@pytest.mark.parametrize(
    ("kind", "make", "sparse", "tolerance"), [(Products, prods, 3, 2e-2), (Squeezed, images, 3, 1e-5)]
)
def test_pruned_layers_run_sparse(
    kind: type[nn.Module], make: Callable[[int], tuple[torch.Tensor, ...]], sparse: int, tolerance: float
) -> None:
    """Of a dynamic batch, also with infinities and NaN in what they read, on one thread and on two."""
    torch.manual_seed(0)
    net = kind().eval()
    batch = torch.export.Dim("batch", min=1, max=64)
    args = make(3)
    module = neve.compile(net, args, dynamic_shapes=[{0: batch}] * len(args), verify=False, threads=2)
    calls = module.artifact.extra["calls"]["forward"]
    taken = [c for c in calls if "sparse" in c["label"]]
    assert len(taken) == sparse, calls
    assert all(times > 1 and ("gemm" in other or "direct" in other) for c in taken for other, times in c["others"])
    for threads in (1, 2):
        module.threads = threads
        for n in (1, 4):
            args = make(n)
            same(net, module, args, tolerance)
            rows = args[0].view(n, -1)
            rows[0, 3], rows[0, 200], rows[-1, 5] = INF, NAN, -INF
            same(net, module, args, tolerance)


def test_the_other_kernel_gives_the_same() -> None:
    """What measurements may pick: the candidate of the next kernel, which has pointers and coordinates of its own."""
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((50, 64), np.float32), pruned(70, 64, 4, 0.1)
    image, kernel = rng.standard_normal((1, 32, 9, 9), np.float32), pruned(64, 288, 4, 0.1).reshape(64, 32, 3, 3)
    conv = Conv(stride=(2, 2), padding=((1, 1), (1, 1)), dilation=(1, 1), groups=1)
    samples = {"product": Sample(Linear(), (x, w)), "convolution": Sample(conv, (image, kernel))}
    program = Program({name: Method(as_graph(s, (1,))) for name, s in samples.items()})
    for rank, sparse in ((0, True), (1, False)):
        made = emit(program, native(), "samples", pick=lambda layer, n, rank=rank: min(rank, n - 1))
        module = open_library(build(made.source, extra=FAST).path, made.source.signature, made.source.weights, 1)
        for name, s in samples.items():
            labels = [c.label for c in made.calls[name] if c.candidates > 1]
            assert labels and all(("sparse" in label) == sparse for label in labels)
            (want,) = s.op.eval(*s.inputs)
            (got,) = module.methods[name](s.inputs[0])
            np.testing.assert_allclose(got, want, atol=1e-4)
