"""Tensors and lists that grow in loops, in every way that their length can come about, against torch.jit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils import _pytree as pytree

import neve
from neve.capture.export import capture
from neve.errors import CaptureError
from neve.ir.interpret import interpret
from tests.capture.torchscript.compared import as_torch_jit, compiled_as_torch_jit, same, scripted

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
X = torch.tensor([1.0, 0.5, -0.2])


class Joined(nn.Module):
    """Exactly as long as an argument says: an empty tensor joined with one entry each turn."""

    def forward(self, x, n: int):
        found, scores, before = torch.zeros([0], dtype=torch.long), torch.zeros([0]), torch.zeros(0, 3)
        for i in range(n):
            x = torch.sin(x * 1.5 + i)
            score, k = torch.max(x, dim=0, keepdim=True)
            found = torch.cat((found, k), dim=0)
            scores = torch.cat((scores, score), dim=0)
            before = torch.cat((x[None], before))
        return found, scores, before


class Stacked(nn.Module):
    """A list in a loop of known length, of an argument's and of a size's; entries read and counted."""

    def forward(self, x, n: int):
        out = []
        for i in range(n):
            x = torch.sin(x * 1.5 + i)
            out.append(x)
        last = out[-1] if n > 0 else x
        return torch.stack(out), torch.cat(out, 0), len(out), torch.stack(out, 1), last


class Long(nn.Module):
    def forward(self, x):
        out = [x]
        for _ in range(60):
            x = torch.sin(x * 1.5)
            out.append(x)
        return torch.stack(out), out[3], len(out)


class Broken(nn.Module):
    """Break, continue and appends under conditions: the run decides all lengths."""

    def forward(self, x):
        rows: list[torch.Tensor] = []
        turns: list[int] = []
        table = torch.zeros(0, 3)
        for i in range(10):
            x = x * 1.5
            if bool(x.sum() > 20):
                break
            rows.append(x)
            if i % 2 == 0:
                continue
            if bool(x[0] > 2):
                turns.append(i)
            table = torch.cat([table, x[None], x[None] * 2])
        return torch.stack(rows), turns, rows, table, table.sum(0), table.size(0), len(turns)


class Pairs(nn.Module):
    """A condition of two parts; entries of several values, iterated over afterwards."""

    def forward(self, x, n: int):
        i = 0
        pairs = torch.jit.annotate(list[tuple[torch.Tensor, int]], [])
        while i < n and bool(x.sum() < 50):
            x = x * 1.3 + 0.1
            if bool(x[0] > 1):
                pairs.append((x, i))
            i += 1
        total = torch.zeros(3)
        for row, k in pairs:
            total += row * k
        return total, pairs, i


class Nested(nn.Module):
    """Grown in an inner loop, within an outer one."""

    def forward(self, x, n: int):
        out: list[torch.Tensor] = []
        for i in range(n):
            for j in range(3):
                if bool(x[0] > j * 0.3):
                    out.append(x * (i + j))  # noqa: PERF401
            x = torch.sin(x + 1)
        return out, len(out)


class Popped(nn.Module):
    def forward(self, x, n: int):
        stack = [x]
        taken = torch.zeros(3)
        for i in range(n):
            top = stack.pop()
            taken = taken + top
            stack.append(top * 0.5)
            if bool(top.sum() > 0.1):
                stack.append(top + i)
        return stack, taken


class Branches(nn.Module):
    """Longer on one side of a branch, outside of any loop."""

    def forward(self, x):
        rows, out = torch.stack([x, x + 1]), [x]
        if bool(x.sum() > 0):
            rows = torch.cat([rows, rows * 2])
            out.append(x * 3)
        return rows, out, rows.mean(0), rows.size(0)


class Cut(nn.Module):
    """Slices with bounds that the run decides."""

    def forward(self, x, n: int):
        table = torch.arange(12.0).reshape(6, 2) + x[0]
        part = table[:n]
        tail = table[n:]
        window = torch.zeros(2, 2)
        for i in range(4):
            if i < n:
                window = window + table[i : i + 2]
        return part, tail, table[1:n:2], part * 2 + 1, part.sum(0), tail.size(0), window, table.narrow(0, min(n, 4), 2)


class Ended(nn.Module):
    """A while loop that the length of a list ends, or its last entry; numbers as a tensor."""

    def forward(self, x, n: int):
        turns: list[int] = []
        while len(turns) < n:
            x = torch.sin(x * 1.5 + len(turns))
            k = int(x.argmax())
            if k == 2:
                break
            turns.append(k)
        return turns, torch.tensor(turns, dtype=torch.long), x


class TwoExits(nn.Module):
    def forward(self, x, n: int):
        turns: list[float] = []
        rows: list[torch.Tensor] = []
        while True:
            x = torch.sin(x * 1.5 + len(turns))
            if bool(x.sum() < -1):
                break
            rows.append(x)
            turns.append(float(x.sum()))
            if len(turns) >= n:
                break
        return torch.tensor(turns), rows, x


PROBLEMS: list[tuple[nn.Module, list[tuple[Any, ...]]]] = [
    (Ended(), [(X, 4), (X, 0), (X * -1, 9), (X * 3, 2)]),
    (TwoExits(), [(X, 4), (X, 1), (X, 0), (X * -3, 9)]),
    (Joined(), [(X, n) for n in (4, 0, 1, 9)]),
    (Stacked(), [(X, n) for n in (4, 0, 1, 9)]),
    (Long(), [(X,), (-X,)]),
    (Broken(), [(X,), (X * 10,), (X * 100,), (X * 0,)]),
    (Pairs(), [(X, n) for n in (4, 0, 1, 9, 40)]),
    (Nested(), [(X, n) for n in (3, 0, 1, 8)] + [(-X, 2)]),
    (Popped(), [(X, n) for n in (3, 0, 1, 8)]),
    (Branches(), [(X,), (-X,)]),
    (Cut(), [(X, n) for n in (3, 0, 1, 6, 9, -2, -9)]),
]


@pytest.mark.parametrize(("model", "calls"), PROBLEMS, ids=lambda p: type(p).__name__)
def test_interpreted(model: nn.Module, calls: list[tuple[Any, ...]]) -> None:
    as_torch_jit(model, calls[0], calls)


@pytest.mark.parametrize(("model", "calls"), PROBLEMS, ids=lambda p: type(p).__name__)
def test_compiled_saved_and_loaded(model: nn.Module, calls: list[tuple[Any, ...]], tmp_path: Path) -> None:
    compiled_as_torch_jit(model, calls[0], calls, tmp_path)


def test_the_header_tells_how_much_is_meant() -> None:
    module = neve.compile(torch.jit.script(Branches()), (X,), threads=1)
    header = module.artifact.sources["model.h"]
    assert "float32[4, 3], of which the first *out1 along axis 0 are meant" in header
    assert "float32[2, 3], of which the first *out3 rows are meant" in header


class Unbounded(nn.Module):
    def forward(self, x):
        found = []
        while bool(x.sum() < 5):
            x = x + 1
            found.append(x)
        return torch.stack(found)


class PerhapsEndless(nn.Module):
    """A turn may leave the list as it is, so its length does not bound the turns, and with them the other list."""

    def forward(self, x, n: int):
        some: list[float] = []
        every: list[float] = []
        while len(some) < n:
            x = torch.sin(x * 1.5 + len(every))
            if bool(x.sum() > 0):
                some.append(float(x.sum()))
            every.append(float(x.sum()))
        return some, every


class OneTensorInAll(nn.Module):
    """Every entry is the same tensor, which each turn writes."""

    def forward(self, x, n: int):
        h, out = x.clone(), []
        for _ in range(n):
            h.add_(1)
            out.append(h)
        return torch.stack(out)


class WrittenAfterwards(nn.Module):
    """The last entry is the variable that is written behind the loop."""

    def forward(self, x, n: int):
        out = [x * 1]
        h = x * 2
        for _ in range(n):
            h = torch.sin(h)
            out.append(h)
        h.add_(1)
        return torch.stack(out)


class Unlike(nn.Module):
    def forward(self, x, n: int):
        out = []
        for _ in range(n):
            out.append(x)
            x = torch.cat([x, x])
        return out


class WrittenInPlace(nn.Module):
    """A write through a part whose size the run decides would reach behind it."""

    def forward(self, x, n: int):
        y = x * 1
        y[:n].add_(1)
        return y


@pytest.mark.parametrize(
    ("model", "args", "wanted"),
    [
        (Unbounded(), (X * 0,), "no bound"),
        (PerhapsEndless(), (X, 3), "no bound"),
        (WrittenAfterwards(), (X, 3), "same as another one on some paths only"),
    ],
    ids=lambda p: type(p).__name__,
)
def test_what_could_be_silently_wrong_is_refused(model: nn.Module, args: tuple[Any, ...], wanted: str) -> None:
    with pytest.raises(CaptureError, match=wanted):
        capture(scripted(model), args)


@pytest.mark.parametrize("model", [Unlike(), WrittenInPlace(), OneTensorInAll()], ids=lambda m: type(m).__name__)
def test_what_cannot_vary_keeps_the_example(model: nn.Module) -> None:
    program = capture(scripted(model), (X, 2))
    assert program.methods["forward"].in_tree["args"][1] == {"const": 2}
    got = interpret(program.methods["forward"].graph, [X.numpy()])
    same([torch.from_numpy(g) for g in got], pytree.tree_leaves(scripted(model)(X, 2)))
