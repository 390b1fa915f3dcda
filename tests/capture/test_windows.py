"""Slices and rows at positions that the run decides, over all positions and beyond, against eager."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.export import Dim

import neve
from neve.errors import InputError, NeveError
from neve.runtime.loader import Module
from tests.capture import windows
from tests.capture.windows import EDGES, READS, SHORT, SIZE, WRITES

X = torch.randn(1, 2, 1, 3, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def methods() -> Module:
    """Every function of `windows` as a method of one module."""
    cache = type("Cache", (windows.Cache,), WRITES | READS)()
    args = {"args": (X, torch.tensor(0))}
    late = {"args": (X, torch.tensor(4))}
    return neve.compile(cache, methods={n: late if n in SHORT else args for n in WRITES | READS}, verify=False)


def compare(method: Callable[..., Any], model: Any, function: Any, *args: Any) -> str:
    """ "same", "raised" by both or "refused"; state starts alike and has to end alike."""
    before = {k: v.clone() for k, v in model.state_dict().items()}
    try:
        want = function(*copy.deepcopy(args))
    except (RuntimeError, IndexError):
        with pytest.raises(NeveError):
            method(*args)
        model.load_state_dict(before)
        return "raised"
    try:
        got = method(*args)
    except InputError:
        model.load_state_dict(before)
        return "refused"
    torch.testing.assert_close(got, want)
    return "same"


@pytest.mark.parametrize("name", WRITES | READS)
def test_at_every_position(name: str, methods: Module) -> None:
    model = type("Cache", (windows.Cache,), WRITES | READS)()
    methods.reset()
    method, function = getattr(methods, name), getattr(model, name)
    said = {p: compare(method, model, function, X + p, torch.tensor(p)) for p in EDGES}
    refused = {p for p, what in said.items() if what == "refused"}
    length = {"added": 1}.get(name, 3)
    start = {"a_window_behind": -2}.get(name, 0)
    whole = {p for p in EDGES if len(range(SIZE)[p + start : p + start + length]) == length}
    assert refused == (set(EDGES) - whole if name in SHORT else set())


def test_rows_of_a_dynamic_number() -> None:
    """Prefill and step in one: p : p + n with n a dynamic size, of 1 also."""

    class Fill(windows.Cache):
        def forward(self, x: Tensor, pos: Tensor) -> Tensor:
            p, n = int(pos), x.shape[2]
            self.c[:, :, p : p + n] = x
            return self.c * 1

    model = Fill()
    n = Dim("n", min=1, max=SIZE + 2)
    compiled = neve.compile(model, (X.expand(1, 2, 3, 3), torch.tensor(0)), dynamic_shapes=({2: n}, None), verify=False)
    for rows in (1, 2, 3, SIZE, SIZE + 1):
        for p in EDGES:
            x = torch.randn(1, 2, rows, 3)
            assert compare(compiled, model, model, x, torch.tensor(p)) != "refused", (rows, p)


def test_a_position_that_the_model_counts() -> None:
    class Steps(windows.Cache):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("pos", torch.tensor(0))

        def forward(self, x: Tensor) -> Tensor:
            p = int(self.pos)
            self.c[:, :, p : p + 1] = x
            self.pos += 1
            return self.c * 1

    model = Steps()
    compiled = neve.compile(model, (X,))
    for k in range(SIZE + 3):
        assert compare(compiled, model, model, X * k) == "same"


INTS: dict[str, Callable[[Tensor, int], Tensor | tuple[Tensor, ...]]] = {
    "up to": lambda x, n: (x[:, :n].sum(1), x[:, n:].sum(1), x[:, 2:n] * 2),
    "from the end": lambda x, n: x[:, -n:] * 2,
    "narrow": lambda x, n: x.narrow(1, 0, n) + 1,
    "topk": lambda x, n: x.topk(n, 1)[0],
    "select": lambda x, n: (x.select(1, n), x[:, n]),
    "softmax": lambda x, n: x[:, :n].softmax(1),
    "window": lambda x, n: x[:, n : n + 3] + 1,
}


@pytest.mark.parametrize("name", INTS)
def test_int_arguments(name: str) -> None:
    class Ints(nn.Module):
        def forward(self, x: Tensor, n: int) -> Any:
            return INTS[name](x, n)

    model, x = Ints(), torch.randn(3, SIZE)
    compiled = neve.compile(model, (x, 3), dynamic_shapes=(None, Dim.DYNAMIC))
    said = {n: compare(compiled, model, model, x, n) for n in (-1, 0, 1, 2, 5, SIZE - 1, SIZE, SIZE + 1, 50)}
    short = {"from the end": {0}, "window": {SIZE - 1, SIZE, SIZE + 1, 50}}.get(name, set())
    assert {n for n, what in said.items() if what == "refused"} - {-1} == short


@pytest.mark.parametrize("method", ["forward", "window"])
def test_archives(method: str) -> None:
    """A slice from -2 to 1 is empty, where the three entries from there on would not be."""
    model = torch.jit.script(windows.Scripted())
    args = {"args": (X, torch.tensor(0))}
    compiled = neve.compile(model, methods={"forward": args, "window": args}, verify=False)
    length = 1 if method == "forward" else 3
    for p in EDGES:
        whole = len(range(SIZE)[p : p + length]) == length
        said = compare(getattr(compiled, method), model, getattr(model, method), X + p, torch.tensor(p))
        assert said == ("same" if whole else "refused"), p


def test_a_length_that_data_decide_names_a_fix_that_works() -> None:
    class Prefix(windows.Cache):
        def forward(self, q: Tensor, pos: Tensor) -> Tensor:
            n = pos.item() + 1
            return torch.softmax(q @ self.c[:, :, :n].mT, -1) @ self.c[:, :, :n]  # type: ignore[misc]

    class Masked(windows.Cache):
        def forward(self, q: Tensor, pos: Tensor) -> Tensor:
            later = torch.arange(SIZE) > pos
            return torch.softmax((q @ self.c.mT).masked_fill(later, -torch.inf), -1) @ self.c

    args = (X, torch.tensor(2))
    with pytest.raises(neve.CaptureError, match="mask what is not meant"):
        neve.compile(Prefix(), args)
    compiled, model = neve.compile(Masked(), args), Prefix()
    for p in range(SIZE):
        torch.testing.assert_close(compiled(X, torch.tensor(p)), model(X, torch.tensor(p)))
