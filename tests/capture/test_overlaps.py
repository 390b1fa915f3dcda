"""In-place ops whose operands share memory: eager says which it refuses; what is taken gives what copies would."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import neve
from neve.capture.overlaps import overlap

ATEN = torch.ops.aten
OPS = {
    "add_": lambda a, b: (ATEN.add_.Tensor, (a, b)),
    "copy_": lambda a, b: (ATEN.copy_.default, (a, b)),
    "lerp_": lambda a, b: (ATEN.lerp_.Scalar, (a, b, 0.5)),
    "addcmul_": lambda a, b: (ATEN.addcmul_.default, (a, b, b)),
    "clamp_": lambda a, b: (ATEN.clamp_.Tensor, (a, b)),
    "masked_fill_": lambda a, b: (ATEN.masked_fill_.Scalar, (a, b > 2, 7.0)),
    "neg_": lambda a, b: (ATEN.neg_.default, (a,)),
    "index_put_": lambda a, b: (ATEN.index_put_.default, (a, [torch.arange(len(b))], b)),
    "scatter_": lambda a, b: (ATEN.scatter_.src, (a, 0, torch.zeros_like(b, dtype=torch.int64), b)),
    "index_add_": lambda a, b: (ATEN.index_add_.default, (a, 0, torch.arange(len(b)), b)),
    "masked_scatter_": lambda a, b: (ATEN.masked_scatter_.default, (a, torch.ones_like(a, dtype=torch.bool), b)),
    "addmm_": lambda a, b: (ATEN.addmm_.default, (a, b, torch.ones(b.shape[1], a.shape[1]))),
    "addmm_ right": lambda a, b: (ATEN.addmm_.default, (a, torch.ones(a.shape[0], b.shape[0]), b)),
}
UNCHECKED = {"masked_fill_", "masked_scatter_", "addmm_", "addmm_ right"}
"""Those that eager does not refuse, or whose operand is a new tensor here."""
VIEWS: dict[str, Callable[[random.Random, Tensor], Tensor]] = {
    "same": lambda r, x: x,
    "slice": lambda r, x: x.narrow(d := r.randrange(x.dim()), s := r.randrange(n := x.shape[d]), r.randint(1, n - s)),
    "step": lambda r, x: x[r.randrange(2) :: 2],
    "select": lambda r, x: x.select(0, r.randrange(x.shape[0])),
    "t": lambda r, x: x.transpose(0, -1),
    "flat": lambda r, x: x.reshape(-1) if x.is_contiguous() else x,
    "expand": lambda r, x: x[:1].expand(3, *x.shape[1:]),
    "unfold": lambda r, x: x.unfold(0, min(2, x.shape[0]), 1),
    "new": lambda r, x: x.unsqueeze(0),
}


def drawn(r: random.Random, x: Tensor) -> Tensor:
    for _ in range(r.randrange(3)):
        if x.dim():
            x = VIEWS[r.choice(list(VIEWS))](r, x)
    return x


def eager(op: Any, args: Any) -> str:
    """What eager says against it."""
    try:
        op(*args)
    except (RuntimeError, IndexError) as error:
        return str(error)
    return ""


def attempt(r: random.Random, name: str) -> str:
    """One op on two views of a tensor: what became of it."""
    memory = torch.arange(12.0)
    x = memory.reshape(r.choice([(12,), (3, 4), (2, 2, 3)]))
    a, b = drawn(r, x), drawn(r, x)
    try:
        op, args = OPS[name](a, b)
    except (RuntimeError, IndexError, TypeError):
        return "no op"
    apart = [t.clone() if isinstance(t, Tensor) and t is not a else t for t in args]
    operands = [t for t in args if isinstance(t, Tensor) and t.untyped_storage()._cdata == x.untyped_storage()._cdata]
    refused = overlap(op, a, operands)
    before = memory.clone()
    said = eager(op, args)
    assert refused or "single memory location" not in said, said
    if said:
        return "refused by eager" if refused else "no op"
    if refused:
        return "refused"
    got = memory.clone()
    memory.copy_(before)
    op(*apart)
    assert torch.equal(got, memory), "not what copies give"
    return "taken"


@pytest.mark.filterwarnings("ignore:Use of")
@pytest.mark.parametrize("name", OPS)
def test_what_eager_refuses_is_refused_and_the_rest_is_as_if_by_value(name: str) -> None:
    r = random.Random(name)
    outcomes = [attempt(r, name) for _ in range(4000)]
    assert outcomes.count("taken") >= 4
    assert outcomes.count("refused by eager") >= 20 or name in UNCHECKED


class Own(nn.Module):
    def __init__(self, f: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.f = f

    def forward(self, x: Tensor) -> Tensor:
        x = x * 1
        self.f(x)
        return x


def shifted(x: Tensor) -> None:
    x[:, 1:] += x[:, :-1]


REFUSED = {
    "same elements, other strides": lambda x: x[:1].add_(x[0]),
    "rank": lambda x: x.unsqueeze(0).mul_(x),
    "not dense": shifted,
    "own index": lambda x: x.index_put_((torch.arange(3),), x),
    "out": lambda x: torch.add(x[:2], x[1:], out=x[:2]),
    "twice": lambda x: x[:1].expand(3, 4).add_(1.0),
    "windows": lambda x: x.unfold(1, 2, 1).add_(1.0),
    "transposed": lambda x: x[:, :3].copy_(x[:, :3].t()),
}
TAKEN = {
    "halves": lambda x: x[:, :2].add_(x[:, 2:]),
    "every other": lambda x: x[:, ::2].mul_(x[:, 1::2]),
    "itself": lambda x: x.mul_(x),
    "its norm": lambda x: x.div_(x.sum(1, keepdim=True)),
    "an element": lambda x: x.__setitem__(slice(0, 1), x[0, 0]),
    "rows": lambda x: x[0].add_(x[1]),
}


STATIC = {"out", "transposed"}  # torch.export does not take them with dynamic sizes
SIZES = [None, {"x": {0: torch.export.Dim("n", min=2, max=64)}}]


@pytest.mark.parametrize("sizes", SIZES, ids=["static", "dynamic"])
@pytest.mark.parametrize("kind", REFUSED)
def test_refused(kind: str, sizes: Any) -> None:
    if sizes is not None and kind in STATIC:
        return
    model, x = Own(REFUSED[kind]), torch.arange(12.0).reshape(3, 4)
    program = torch.export.export(model, (x,), dynamic_shapes=sizes)
    for given in (model, program):
        with pytest.raises(
            (neve.CaptureError, RuntimeError),
            match=r"a place in memory twice|single memory location|internal overlap|more than one element",
        ):
            neve.compile(given, (x,), dynamic_shapes=sizes if given is model else None, verify=False)


@pytest.mark.parametrize("sizes", SIZES, ids=["static", "dynamic"])
@pytest.mark.parametrize("kind", TAKEN)
def test_taken(kind: str, sizes: Any) -> None:
    model, x = Own(TAKEN[kind]), torch.arange(1.0, 13.0).reshape(3, 4)
    module = neve.compile(model, (x,), dynamic_shapes=sizes, verify=False)
    torch.testing.assert_close(module(x), model(x))


def test_an_exported_program_from_a_file(tmp_path: Any) -> None:
    """A file does not say which tensors share a storage."""
    for kind, refused in (("not dense", True), ("halves", False)):
        x = torch.arange(1.0, 13.0).reshape(3, 4)
        model = Own({**REFUSED, **TAKEN}[kind])
        torch.export.save(torch.export.export(model, (x,)), tmp_path / "m.pt2")
        if refused:
            with pytest.raises(neve.CaptureError, match="a place in memory twice"):
                neve.compile(tmp_path / "m.pt2", verify=False)
        else:
            torch.testing.assert_close(neve.compile(tmp_path / "m.pt2", verify=False)(x), model(x))


class Picked(nn.Module):
    """y is, on one path, the tensor that is written."""

    def forward(self, x: Tensor, z: bool) -> Tensor:
        x = x * 1
        y = torch.ones(3) if z else x
        x[1:] = y[:2]
        return x


def test_what_a_branch_picks_may_be_the_tensor_that_is_written() -> None:
    with pytest.raises(neve.CaptureError, match="a place in memory twice"):
        neve.compile(torch.jit.script(Picked()), (torch.ones(3), True), verify=False)
