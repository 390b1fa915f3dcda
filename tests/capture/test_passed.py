"""Lists, dicts and objects among the arguments that a call changes: they are afterwards what eager makes of them."""

from __future__ import annotations

import dataclasses
import enum
from collections import OrderedDict, deque
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import neve
from neve.capture.objects import plain
from neve.errors import CaptureError, InputError


@dataclasses.dataclass
class Cache:
    keys: list[Tensor]
    seen: Tensor
    name: str = "cache"


class Slots:
    __slots__ = ("a", "b")

    def __init__(self, a: Tensor, b: Any = None) -> None:
        self.a, self.b = a, b


class Mode(enum.Enum):
    A = 1
    B = 2


def grows(x: Tensor, c: Any) -> Any:
    c.append(x * 2)
    return x + 1


def pops(x: Tensor, c: Any) -> Any:
    return c.pop(0) + x


def swaps(x: Tensor, c: Any) -> Any:
    c[0], c[1] = c[1], c[0]
    return x + c[0]


def fills(x: Tensor, c: Any) -> Any:
    c["k"] = torch.cat([c["k"], x])
    del c["old"]
    c["more"] = {"x": x.sum(), "n": None}
    return c["k"]


def caches(x: Tensor, c: Any) -> Any:
    c.keys.append(torch.cat([c.keys[-1], x]))
    c.seen = c.seen + 1
    c.name = "used"
    return c


def slots(x: Tensor, c: Any) -> Any:
    c.b = (x, [c.a])
    c.a = x.flip(0)
    return x.exp()


def modes(x: Tensor, c: Any) -> Any:
    c.mode, c.size, c.dtype = Mode.B, x.shape, torch.float64
    return x * 2


def nested(x: Tensor, c: Any) -> Any:
    for layer in c["layers"]:
        layer.k = torch.cat([layer.k, x])
    c["layers"].append(SimpleNamespace(k=x.clone()))
    return x - 1


def writes_too(x: Tensor, c: Any) -> Any:
    c[0].add_(x)
    c.append(c[0] * 2)
    return x + 0


def t(*numbers: float) -> Tensor:
    return torch.tensor(numbers, dtype=torch.float32)


CASES: dict[str, tuple[Callable[[Tensor, Any], Any], Callable[[], Any]]] = {
    "append": (grows, lambda: [t(1, 2, 3)]),
    "append to nothing": (grows, list),
    "deque": (grows, lambda: deque([t(1, 2, 3)], maxlen=2)),
    "pop": (pops, lambda: [t(1, 2, 3), t(4, 5, 6)]),
    "swap": (swaps, lambda: [t(1, 2, 3), t(4, 5, 6)]),
    "dict": (fills, lambda: {"k": t(1), "old": t(2)}),
    "ordered": (fills, lambda: OrderedDict(old=t(2), k=t(1))),
    "dataclass": (caches, lambda: Cache([t(1)], t(0))),
    "slots": (slots, lambda: Slots(t(1, 2, 3))),
    "constants": (modes, lambda: SimpleNamespace(mode=Mode.A, size=torch.Size([1]), dtype=torch.float32)),
    "nested": (nested, lambda: {"layers": [SimpleNamespace(k=t(1)), SimpleNamespace(k=t(2))]}),
    "written as well": (writes_too, lambda: [t(1, 2, 3)]),
}


class Model(nn.Module):
    def __init__(self, f: Callable[[Tensor, Any], Any]) -> None:
        super().__init__()
        self.f = f

    def forward(self, x: Tensor, c: Any) -> Any:
        return self.f(x, c)


def leaves(value: Any) -> list[Any]:
    return [v for v in torch.utils._pytree.tree_leaves(plain(value)) if isinstance(v, Tensor)]


def index(tensors: list[Any], t: Any) -> int:
    return next((k for k, other in enumerate(tensors) if other is t), -1)


def same(a: Any, b: Any) -> None:
    assert type(a) is type(b)
    torch.testing.assert_close(leaves(a), leaves(b))
    assert torch.utils._pytree.tree_structure(plain(a)) == torch.utils._pytree.tree_structure(plain(b))


@pytest.mark.parametrize("by_name", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_an_argument_is_what_eager_makes_of_it(case: str, by_name: bool) -> None:
    f, make = CASES[case]
    x = torch.arange(3.0)
    args, kwargs = ((x,), {"c": make()}) if by_name else ((x, make()), {})
    module = neve.compile(Model(f), args, kwargs=kwargs)
    same(args[1] if not by_name else kwargs["c"], make())  # capture leaves the example alone
    for x in (torch.randn(3), torch.randn(3)):
        ours, theirs = make(), make()
        held, same_of = leaves(ours), leaves(theirs)
        same(module(x, c=ours) if by_name else module(x, ours), f(x.clone(), theirs))
        same(ours, theirs)
        # the same tensors are still there
        assert [index(held, v) for v in leaves(ours)] == [index(same_of, v) for v in leaves(theirs)]


def test_without_the_class_and_in_numpy(tmp_path: Path) -> None:
    neve.compile(Model(caches), (t(1, 2), Cache([t(1)], t(0)))).save(tmp_path / "m.neve")
    loaded = neve.load(tmp_path / "m.neve")
    cache = SimpleNamespace(keys=[np.ones(1, np.float32)], seen=np.zeros(1, np.float32), name="cache")
    loaded(np.ones(2, np.float32), cache)
    assert [k.tolist() for k in cache.keys] == [[1], [1, 1, 1]]
    assert cache.seen.tolist() == [1] and cache.name == "used"
    with pytest.raises(InputError, match="wanted a list of 1"):
        loaded(np.ones(2, np.float32), cache)


def test_what_cannot_change_is_refused_before_the_call() -> None:
    module = neve.compile(Model(grows), (t(1, 2, 3), [t(1, 2, 3)]))
    with pytest.raises(InputError, match="got a tuple, wanted a list: the model changes it"):
        module(t(1, 2, 3), (t(1, 2, 3),))


def another(x: Tensor, c: Any) -> Any:
    c["l"] = [*c["l"], x]
    return x * 1


def moved(x: Tensor, c: Any) -> Any:
    c["m"] = c.pop("l")
    return x * 1


@pytest.mark.parametrize("f", [another, moved])
def test_another_container_in_the_place_of_one_is_refused(f: Any) -> None:
    with pytest.raises(CaptureError, match="in the place of one among its arguments"):
        neve.compile(Model(f), (t(1), {"l": [t(2)]}))


def test_a_dynamic_size_and_branches_on_it() -> None:
    def f(x: Tensor, c: Any) -> Any:
        c[0] = torch.cat([c[0], x]) if x.shape[0] > 2 else c[0] * 2
        return x + 1

    n, m = torch.export.Dim("n", min=1, max=8), torch.export.Dim("m", min=0, max=64)
    module = neve.compile(Model(f), (torch.ones(4), [torch.ones(5)]), dynamic_shapes=({0: n}, [{0: m}]))
    ours, theirs = [torch.zeros(0)], [torch.zeros(0)]
    for k in (3, 1, 4, 2):
        x = torch.randn(k)
        same(module(x, ours), f(x, theirs))
        same(ours, theirs)
