"""State whose shape, type, structure or Python value changes from call to call, against torch.jit over many calls."""

# ruff: noqa: UP006, UP007, UP035, UP045

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple, Union

import pytest
import torch
from torch import Tensor, nn

import neve
from neve.capture.export import capture
from neve.errors import CaptureError, NeveError
from neve.ir import walk
from tests.capture.torchscript.compared import clones, same, scripted
from tests.interpreted import Interpreted

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
Calls = Sequence[tuple[str, tuple[Any, ...]]]


class FromNone(nn.Module):
    h: Optional[Tensor]

    def __init__(self) -> None:
        super().__init__()
        self.h = None

    def forward(self, x):
        h = self.h
        if h is None:
            h = torch.zeros_like(x)
        h = torch.tanh(h + x)
        self.h = h
        return h

    @torch.jit.export
    def clear(self) -> None:
        self.h = None


class PairFromNone(nn.Module):
    state: Optional[Tuple[Tensor, Tensor]]

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.LSTMCell(3, 3)
        self.state = None

    def forward(self, x):
        h, c = self.cell(x, self.state)
        self.state = (h, c)
        return h + 0


class FromEmpty(nn.Module):
    """An empty tensor that gets the shape of the first input, and another one with another input."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = torch.zeros(0)
        self.last = 0

    def forward(self, x):
        if self.last != 0 and self.last != x.size(0):
            self.seen = torch.zeros(0)
        if len(self.seen) == 0:
            self.seen = torch.zeros(x.size(0))
        self.seen = self.seen * 0.5 + x
        self.last = x.size(0)
        return self.seen.sum()


class OtherTypes(nn.Module):
    """float32 → float64, an int that is a float at times."""

    n: Union[int, float]

    def __init__(self) -> None:
        super().__init__()
        self.h = torch.zeros(3)
        self.n = 1

    def forward(self, x):
        self.h = self.h + x.to(torch.float64) / 3
        n = self.n
        if isinstance(n, int):
            self.n = n + 0.5
            y = float(n)
        else:
            assert isinstance(n, float)
            self.n = int(n) + 2
            y = n
        return (self.h * y).to(torch.float32)


class History(nn.Module):
    """The last three inputs in a list, and in a dict by name."""

    seen: List[Tensor]
    named: Dict[str, Tensor]

    def __init__(self) -> None:
        super().__init__()
        self.seen = []
        self.named = {}

    def forward(self, x):
        self.seen.append(x * 2)
        if len(self.seen) > 3:
            self.seen.pop(0)
        if "first" not in self.named:
            self.named["first"] = x
        self.named["last"] = x + 1
        return torch.stack(self.seen).sum(0) + self.named["first"] - self.named["last"]


class Decides(nn.Module):
    """An int that is a size and a string that picks a branch; a float that is neither."""

    def __init__(self) -> None:
        super().__init__()
        self.step, self.mode, self.gain = 1, "sum", 0.5

    def forward(self, x):
        self.gain = self.gain * 2
        y = x[:: self.step]
        y = y.sum() if self.mode == "sum" else y.prod()
        return y * self.gain

    @torch.jit.export
    def turn(self) -> int:
        self.step = self.step % 3 + 1
        self.mode = "product" if self.step == 2 else "sum"
        return self.step


class Memory(nn.Module):
    """Methods that all change what the memory is."""

    memory: Optional[Tensor]

    def __init__(self) -> None:
        super().__init__()
        self.memory = None
        self.reads = 0

    @torch.jit.export
    def encode(self, x):
        self.memory = x * 2
        return x.sum()

    @torch.jit.export
    def extend(self, y):
        memory = self.memory
        assert memory is not None, "nothing to extend"
        if memory.size(0) < 6:
            memory = torch.cat([memory, y])
        self.memory = memory
        return memory.size(0)

    @torch.jit.export
    def decode(self, i: int):
        memory = self.memory
        if memory is None:
            raise RuntimeError("call encode first")
        self.reads += 1
        return memory[i % memory.size(0)] * self.reads, memory.mean()


@torch.jit.script
class Cursor:
    def __init__(self, at: Tensor, turns: int) -> None:
        self.at = at
        self.turns = turns

    def move(self, by: Tensor) -> None:
        self.at = self.at + by
        self.turns += 1


class Objects(nn.Module):
    """An object of a class of the model, changed and then replaced."""

    def __init__(self) -> None:
        super().__init__()
        self.cursor = Cursor(torch.zeros(2), 0)

    def forward(self, x):
        self.cursor.move(x)
        if self.cursor.turns > 2:
            self.cursor = Cursor(self.cursor.at * 0.5, 0)
        return self.cursor.at + self.cursor.turns


class Swaps(nn.Module):
    """Places that exchange what they hold, and views of one tensor in two places."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = torch.zeros(2), torch.ones(2)
        self.m, self.n = 1, 5
        self.p, self.q = [1.0, 2.0], [3.0, 4.0]
        self.left, self.right = torch.zeros(1), torch.zeros(1)

    def forward(self, x):
        old = self.a
        self.a, self.b = self.b + x, self.a
        self.m, self.n = self.n, self.m
        self.p, self.q = self.q, self.p
        self.p[0] += 1
        self.left, self.right = torch.chunk(x * self.m, 2)
        return old, self.a + self.m, self.p[0] + self.p[1], self.left - self.right


class Tied(nn.Module):
    """Two names of one tensor, of which one is replaced."""

    def __init__(self) -> None:
        super().__init__()
        self.a = torch.zeros(2)
        self.b = self.a

    def forward(self, x):
        self.a = self.a + x
        return self.a * 10 + self.b


class Ring(nn.Module):
    """Written in place, at a place that is known at run time only, and made larger once."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("ring", torch.zeros(2, 3))
        self.at = 0

    def forward(self, x):
        self.ring[self.at % 2] = x
        self.at += 1
        if self.ring.size(0) == 2:
            self.ring = torch.cat([self.ring, self.ring])
        self.ring[-1].mul_(0.5)
        return self.ring.sum(0)


class Nested(nn.Module):
    """Two submodules of one class, one of them under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = FromNone(), FromNone()
        self.again = self.one

    def forward(self, x):
        return self.one(x) + self.again(x * 2) - self.two(x)


G = torch.Generator().manual_seed(0)
X = [torch.randn(4, generator=G) for _ in range(8)]
PROBLEMS: list[tuple[nn.Module, Mapping[str, tuple[Any, ...]], Calls]] = [
    (FromNone(), {"forward": (X[0],), "clear": ()}, [*(("forward", (x,)) for x in X[:3]), ("clear", ()),
                                                    ("forward", (X[4],)), ("forward", (X[5],))]),
    (PairFromNone(), {"forward": (torch.ones(1, 3),)}, [("forward", (x[None, :3],)) for x in X[:4]]),
    (FromEmpty(), {"forward": (X[0],), "small": (X[0][:2],)},
     [*(("forward", (x,)) for x in X[:2]), *(("small", (x[:2],)) for x in X[:2]), ("forward", (X[2],))]),
    (OtherTypes(), {"forward": (X[0][:3],)}, [("forward", (x[:3],)) for x in X]),
    (History(), {"forward": (X[0],)}, [("forward", (x,)) for x in X]),
    (Decides(), {"forward": (X[0],), "turn": ()},
     [(m, (x,) if m == "forward" else ()) for x in X[:4] for m in ("forward", "forward", "turn")]),
    (Memory(), {"encode": (torch.ones(2, 3),), "extend": (torch.ones(2, 3),), "decode": (1,)},
     [("decode", (0,)), ("extend", (torch.ones(2, 3),)), ("encode", (torch.rand(2, 3, generator=G),)), ("decode", (1,)),
      *[("extend", (torch.rand(2, 3, generator=G),))] * 4, ("decode", (5,)), ("encode", (torch.rand(2, 3),)),
      ("decode", (3,))]),
    (Objects(), {"forward": (X[0][:2],)}, [("forward", (x[:2],)) for x in X]),
    (Swaps(), {"forward": (X[0][:2],)}, [("forward", (x[:2],)) for x in X[:5]]),
    (Tied(), {"forward": (X[0][:2],)}, [("forward", (x[:2],)) for x in X[:3]]),
    (Ring(), {"forward": (X[0][:3],)}, [("forward", (x[:3],)) for x in X]),
    (Nested(), {"forward": (X[0],)}, [("forward", (x,)) for x in X[:3]]),
]  # fmt: skip
ALIASES = {"small": "forward"}


def methods(calls: Mapping[str, tuple[Any, ...]]) -> dict[str, Any]:
    return {k: {"args": a, "method": ALIASES.get(k, k)} for k, a in calls.items()}


def follow(module: Any, want: Any, calls: Calls) -> None:
    """module does what the ScriptModule does, errors included."""
    call = module.call if isinstance(module, Interpreted) else lambda name, *args: getattr(module, name)(*args)
    for name, args in calls:
        try:
            expected = getattr(want, ALIASES.get(name, name))(*clones(args))
        except Exception:
            with pytest.raises(NeveError):
                call(name, *args)
            continue
        got = call(name, *args)
        assert (got is None) == (expected is None)
        if expected is not None:
            same(got, expected)


@pytest.mark.parametrize(("model", "examples", "calls"), PROBLEMS, ids=lambda p: type(p).__name__)
def test_as_torch_jit(model: nn.Module, examples: Mapping[str, Any], calls: Calls) -> None:
    program = capture(scripted(copy.deepcopy(model)), methods=methods(examples))
    module = Interpreted(program)
    for _ in range(2):
        follow(module, scripted(copy.deepcopy(model)), calls)
        module.reset()
    follow(Interpreted(program, passes=False), scripted(copy.deepcopy(model)), calls)


@pytest.mark.parametrize(
    ("model", "examples", "calls"), [PROBLEMS[i] for i in (4, 6, 8)], ids=lambda p: type(p).__name__
)
def test_compiled_as_torch_jit(model: nn.Module, examples: Mapping[str, Any], calls: Calls, tmp_path: Path) -> None:
    made = neve.compile(scripted(copy.deepcopy(model)), methods=methods(examples), threads=1)
    made.save(tmp_path / "m.neve")
    module = neve.load(tmp_path / "m.neve")
    for _ in range(2):
        follow(module, scripted(copy.deepcopy(model)), calls)
        module.reset()


class GrowingList(nn.Module):
    seen: List[Tensor]

    def __init__(self) -> None:
        super().__init__()
        self.seen = []

    def forward(self, x):
        self.seen.append(x)
        return x


class Counts(nn.Module):
    """A number that is a size and counts on for ever."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 1

    def forward(self, x):
        self.calls += 1
        return x.repeat(self.calls).sum()


class OtherResults(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.h = torch.zeros(0)

    def forward(self, x):
        self.h = torch.cat([self.h, x]) if len(self.h) < 4 else self.h
        return self.h * 2


class OneList(nn.Module):
    """From the second call on, a change of one list is one of the other."""

    a: List[int]
    b: List[int]

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = [1], [2]

    def forward(self, x):
        self.a[0] += 1
        y = x * self.b[0]
        self.a = self.b
        return y


class TiedAndWritten(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = torch.zeros(2)
        self.b = self.a

    def forward(self, x):
        self.b.add_(x)
        self.a = self.a + 1
        return self.a


class PassedOn(nn.Module):
    """What `last` holds after two calls is what `a` holds, and it is written."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.last = torch.zeros(2), torch.ones(2), torch.full((2,), 2.0)

    def forward(self, x):
        self.last[0] += x[0]
        y = self.a + self.last
        self.last = self.b
        self.b = self.a.detach()
        self.a = self.a.detach()
        return y


class PassedOnFromTheArchive(nn.Module):
    """The same, where the first two are one from the start and one of them stays what it is."""

    def __init__(self) -> None:
        super().__init__()
        self.a = torch.zeros(2)
        self.b, self.last = self.a, torch.ones(2)

    def forward(self, x):
        y = self.a + self.last.add_(x)
        self.last = self.b
        self.b = x * 2
        return y


class FromData(nn.Module):
    """A size that the data decide."""

    def __init__(self) -> None:
        super().__init__()
        self.n = 2

    def forward(self, x):
        y = x.reshape(self.n, -1).sum(0)
        self.n = 1 if bool(x.sum() > 0) else 2
        return y.sum()


@pytest.mark.parametrize(
    ("model", "wanted"),
    [
        (GrowingList(), r"ever new forms.* seen is an empty list, a list of 1 .*forward → forward → "),
        (Counts(), r"attribute calls is 1, 2, 3, 4, … .*must be known at capture, because: forward: "),
        (OtherResults(), r"forward: it returns float32\[2\], and float32\[4\] after forward: .* the same types"),
        (OneList(), "the attributes b and a are one container after the call"),
        (TiedAndWritten(), "a is the memory of several attributes until one of them is assigned"),
        (PassedOn(), "the attributes last and a are one tensor after the call"),
        (PassedOnFromTheArchive(), "the attributes last and a are one tensor after the call"),
        (FromData(), "the attribute n decides .* only the run knows"),
    ],
    ids=lambda p: type(p).__name__,
)
def test_what_cannot_be_told_is_refused(model: nn.Module, wanted: str) -> None:
    with pytest.raises(CaptureError, match=wanted):
        capture(scripted(model), (X[0][:2],))


def test_a_preserved_attribute_keeps_its_form() -> None:
    with pytest.raises(CaptureError, match=r"ring cannot be preserved, as calls change what it is: float32\[2"):
        capture(scripted(Ring()), (X[0][:3],), preserved_attrs=["ring"])


def test_numbers_that_need_not_be_known_stay_state_of_the_run() -> None:
    program = capture(scripted(Swaps()), (X[0][:2],))
    assert not any(s.name == "variant" for s in walk.states(program))
    program = capture(scripted(Decides()), (X[0],), methods={"turn": ()})
    assert {s.name for s in walk.states(program)} == {"variant", "gain"}
    assert set(program.attributes) == {"gain"}


class Eager(nn.Module):
    def forward(self, x):
        return x * 2


def test_a_method_under_another_name() -> None:
    methods = {"wide": {"method": "forward", "args": (torch.ones(7),)}}
    for model in (Eager(), scripted(Eager())):
        module = neve.compile(model, (torch.ones(2),), methods=methods, threads=1)
        same(module.wide(torch.arange(7.0)), torch.arange(7.0) * 2)
        same(module(torch.arange(2.0)), torch.arange(2.0) * 2)
