"""Results and arguments that are no plain containers come back as what they are."""

from __future__ import annotations

import collections
import dataclasses
import enum
import subprocess
import sys
import types
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

import pytest
import torch
from torch import Tensor, nn

import neve
from neve.runtime.trees import builder

T = TypeVar("T")
X = torch.tensor([[1.0, 3.0, 2.0, 3.0], [0.5, -1.0, 0.0, 2.0], [4.0, 4.5, -3.0, 1.0]])


class Mode(enum.Enum):
    A = 1
    B = "b"


class Flags(enum.Flag):
    X = 1
    Y = 2


@dataclasses.dataclass
class Plain:
    x: Tensor
    n: int = 3
    mode: Mode = Mode.B
    flags: Flags = Flags.X | Flags.Y
    none: Tensor | None = None
    dtype: torch.dtype = torch.float16
    text: str = "text"


@dataclasses.dataclass(frozen=True)
class Frozen(Generic[T]):
    """Its __post_init__ must not run twice."""

    inner: Plain
    several: list[Plain]
    made: Tensor = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "made", self.inner.x * 2)
        object.__setattr__(self.inner, "x", self.inner.x + 1)


@dataclasses.dataclass(slots=True)
class Slotted:
    a: Tensor


@dataclasses.dataclass
class Inheriting(Plain):
    y: Tensor | None = None


class Pair(NamedTuple):
    a: Tensor
    b: float = 2.0


class Bag:
    def __init__(self, **fields: Any) -> None:
        self.__dict__.update(fields)


class Sub(dict):  # type: ignore[type-arg]
    pass


def everything(x: Tensor) -> dict[Any, Any]:
    lists = collections.defaultdict(list)
    lists["a"].append(x)
    return {
        "frozen": Frozen(Plain(x * 2), [Plain(x, 4), Inheriting(x, y=x + 1)]),
        "slots": (Slotted(x), Pair(x)),
        "bag": Bag(x=x, size=x.shape, empty=[], number=2.5, c=1 + 2j, some={1, "a"}, inner=Bag(mode=Mode.A)),
        "space": types.SimpleNamespace(x=x, device=x.device),
        "deque": collections.deque([x, x + 1], maxlen=2),
        "lists": lists,
        "ordered": collections.OrderedDict([(3, x), ("b", x * 2)]),
        "sub": Sub(a=x),
        1: x + 1,
        (2, "b"): x + 2,
        Mode.A: Mode.B,
    }


class Returns(nn.Module):
    def __init__(self, f: Callable[..., Any]) -> None:
        super().__init__()
        self.f = f

    def forward(self, x: Any) -> Any:
        return self.f(x)


def equal(a: Any, b: Any) -> bool:
    """The same types all the way down, and the same tensors."""
    if type(a) is not type(b):
        return False
    if isinstance(a, Tensor):
        return torch.equal(a, b) and a.dtype is b.dtype
    if isinstance(a, collections.deque) and a.maxlen != b.maxlen:
        return False
    if isinstance(a, collections.defaultdict) and a.default_factory is not b.default_factory:
        return False
    if isinstance(a, dict):
        return list(a) == list(b) and all(equal(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple, collections.deque)):
        return len(a) == len(b) and all(map(equal, a, b))
    if isinstance(a, (enum.Enum, set)):
        return bool(a == b)
    names = [n for c in type(a).__mro__ for n in getattr(c, "__slots__", ()) if n not in ("__dict__", "__weakref__")]
    if names or getattr(a, "__dict__", None):
        return all(equal(getattr(a, n), getattr(b, n)) for n in names) and equal(
            getattr(a, "__dict__", None), getattr(b, "__dict__", None)
        )
    return bool(a == b)


def test_objects_are_returned_as_what_they_are() -> None:
    model = Returns(everything).eval()
    module = neve.compile(model, (X,), threads=1)
    for x in (X, X.flip(0) * 2):
        assert equal(module(x), model(x))


LAST = ("max", "min", "median", "nanmedian", "mode", "sort", "cummax", "cummin")
STRUCTS: list[Callable[[Tensor], Any]] = [
    *(partial(getattr(torch, name), dim=-1) for name in LAST),
    lambda x: x.topk(2),
    lambda x: x.kthvalue(2),
    lambda x: x.aminmax(dim=1),
]


def test_what_torch_returns_is_returned_as_it_is(tmp_path: Path) -> None:
    model = Returns(lambda x: [f(x) for f in STRUCTS]).eval()
    module = neve.compile(model, (X,), threads=1)
    assert equal(module(X), model(X))
    module.artifact.save(tmp_path / "m.neve")
    assert equal(neve.load(tmp_path / "m.neve")(X), model(X))


def test_elsewhere_they_are_stand_ins_with_the_same_fields(tmp_path: Path) -> None:
    neve.compile(Returns(lambda x: (Frozen(Plain(x), []), x.max(-1))).eval(), (X,), threads=1).artifact.save(
        tmp_path / "m.neve"
    )
    code = f"""
import numpy as np, sys, neve
out, most = neve.load({str(tmp_path / "m.neve")!r})(np.array({X.tolist()}, np.float32))
assert "torch" not in sys.modules
assert out.made.shape == (3, 4) and out["inner"].text == "text" and out.inner.mode.name == "B"
values, indices = most
assert most.values is values and indices.tolist() == [1, 3, 1]
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])


@pytest.mark.parametrize("name", ["load", "nn", "hub.load", "__builtins__", "nothing"])
def test_a_file_that_names_a_dtype_gets_no_other_thing_of_torch(name: str) -> None:
    tree = {"object": {"class": "torch.dtype", "fields": {"name": {"const": name}}}}
    with pytest.raises(neve.ArtifactError, match="no dtype"):
        builder(tree)([])


def test_objects_are_arguments() -> None:
    def f(o: Any) -> Any:
        return o.first.x * o.first.n + o.second[1].a.cumsum(0), o

    def argument(x: Tensor, n: int = 3) -> Any:
        return types.SimpleNamespace(first=Plain(x, n), second={1: Slotted(x * 2)})

    size = {0: torch.export.Dim("rows", min=1, max=9)}
    shapes = {"x": {"first": {"x": size}, "second": {1: {"a": size}}}}
    model = Returns(f).eval()
    module = neve.compile(model, (argument(X),), dynamic_shapes=shapes, threads=1)
    for x in (X, torch.ones(1, 4), torch.ones(9, 4)):
        assert equal(module(argument(x)), model(argument(x)))
    with pytest.raises(neve.InputError, match="'n'"):
        module(argument(X, 4))
    with pytest.raises(neve.InputError):
        module(types.SimpleNamespace(first=Plain(X)))


def own(x: Tensor) -> Any:
    bag = Bag(x=x)
    bag.itself = bag  # type: ignore[attr-defined]
    return bag


@pytest.mark.parametrize(
    ("f", "x", "wanted"),
    [
        (lambda x: {x}, X, "builtins.set in a result"),
        (lambda x: (x, lambda: 1), X, "builtins.function in a result"),
        (own, X, "contains itself"),
    ],
)
def test_what_cannot_be_handed_over_is_refused(f: Any, x: Any, wanted: str) -> None:
    with pytest.raises(neve.CaptureError, match=wanted):
        neve.compile(Returns(f).eval(), (x,))
