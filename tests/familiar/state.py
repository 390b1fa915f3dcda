"""Section F, state: what methods write and what stays settable, over several calls."""

import torch
from torch import Tensor, nn

from tests.familiar.case import Assign, Call, Case, Read, calls, randn

X, Y, Z = randn(3), randn(3, seed=1), randn(3, seed=2)
THREE = (X, Y, Z)


class InPlace(nn.Module):
    """A buffer written by methods, by indexing, through views, by copying; with a parameter that is read alone."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("a", torch.zeros(3))
        self.register_buffer("b", torch.zeros(2, 3))
        self.register_buffer("c", torch.zeros(3))
        self.w = nn.Parameter(torch.randn(3))

    def forward(self, x: Tensor) -> Tensor:
        self.a.add_(x * self.w)
        self.b[0] = self.a
        self.b[1, 1] = 7.0
        self.c.copy_(self.b.sum(0))
        return self.a + self.c


class ThroughViews(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("b", torch.zeros(2, 3))

    def forward(self, x: Tensor) -> Tensor:
        self.b.view(-1)[2:5].add_(x)
        self.b.t()[1].mul_(2)
        self.b.unsqueeze(0).transpose(1, 2)[0, 0] += 1
        return self.b * 1


class Reassigned(nn.Module):
    """Attributes that are given new values: a tensor, an int, a float, a bool."""

    def __init__(self) -> None:
        super().__init__()
        self.h = torch.zeros(3)
        self.n, self.decay, self.flag = 0, 1.0, False

    def forward(self, x: Tensor) -> tuple[Tensor, int, float, bool]:
        self.n += 1
        self.decay = self.decay * 0.5
        self.flag = not self.flag
        self.h = self.h * self.decay + x
        if self.n > 2:
            self.h = torch.zeros(3)
        return self.h + 1, self.n, self.decay, self.flag


class BufferReassigned(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("h", torch.zeros(3))
        self.register_buffer("n", torch.tensor(0))

    def forward(self, x: Tensor) -> Tensor:
        self.h = self.h * 0.5 + x
        self.n += 1
        return self.h * self.n


class ChildState(nn.Module):
    """State of children, at their paths."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = BufferReassigned(), BufferReassigned()

    def forward(self, x: Tensor) -> Tensor:
        return self.left(x) + self.right(self.right(x))


class StreamingGru(nn.Module):
    """Keeps the state of a layer whose forward has overloads in a plain attribute."""

    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(3, 4)
        self.h = torch.zeros(1, 2, 4)

    def forward(self, x: Tensor) -> Tensor:
        y, h = self.gru(x, self.h)
        self.h = h
        return y


class InstanceStatistics(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(3))
        self.register_buffer("var", torch.ones(3))

    def forward(self, x: Tensor) -> Tensor:
        y = nn.functional.instance_norm(x, self.mean, self.var, use_input_stats=True, momentum=0.2)
        return y + nn.functional.instance_norm(x, self.mean, self.var, use_input_stats=False)


class Appends(nn.Module):
    """A list that grows with every call."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = [11, 22]

    def forward(self, x: Tensor, i: int) -> tuple[Tensor, int]:
        self.seen.append(i)
        return x * len(self.seen), self.seen[-2]


class WritesContainers(nn.Module):
    """Entries of a list and a dict that get new values."""

    def __init__(self) -> None:
        super().__init__()
        self.entries = [1, 2]
        self.named = {"a": 1.0}
        self.tensors = [torch.zeros(3), torch.ones(3)]

    def forward(self, x: Tensor) -> tuple[Tensor, int, float]:
        self.entries[0] += self.entries[1]
        self.named["a"] = self.named["a"] * 2
        self.tensors[0] = self.tensors[0] + x
        self.tensors[1].mul_(2)
        return self.tensors[0] * self.tensors[1], self.entries[0], self.named["a"]


class Aliases(nn.Module):
    """Two attributes on one memory, one of them written."""

    def __init__(self) -> None:
        super().__init__()
        whole = torch.zeros(2, 3)
        self.register_buffer("whole", whole)
        self.register_buffer("row", whole[1])

    def forward(self, x: Tensor) -> Tensor:
        self.row.add_(x)
        return self.whole.sum(0) * 2


class SameTensorTwice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("a", torch.zeros(3))
        self.register_buffer("b", self.a)

    def forward(self, x: Tensor) -> Tensor:
        self.a.add_(x)
        return self.b * 2


class Overlap(nn.Module):
    """A tensor in a list overlaps another attribute; neither is written."""

    def __init__(self) -> None:
        super().__init__()
        self.whole = torch.randn(2, 3)
        self.rows = [self.whole[0], self.whole[1]]

    def forward(self, x: Tensor) -> Tensor:
        return self.whole.sum(0) * x + self.rows[0] - self.rows[1]


class SharedCounter(nn.Module):
    """A child at two paths whose number is written: eager counts once for both."""

    def __init__(self) -> None:
        super().__init__()
        self.a = Counter()
        self.b = self.a

    def forward(self, x: Tensor) -> Tensor:
        return self.a(x) + self.b(x)


class Counter(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.n = 0

    def forward(self, x: Tensor) -> Tensor:
        self.n += 1
        return x * self.n


class Settings(nn.Module):
    """Attributes to be set from outside."""

    def __init__(self) -> None:
        super().__init__()
        self.scale, self.limit, self.bias = 2.0, 3, torch.randn(3)
        self.child = Inner()

    def forward(self, x: Tensor) -> Tensor:
        y = x * self.scale + self.bias
        if self.limit > 3:
            y = -y
        return self.child(y)


class Inner(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.w, self.unused = nn.Parameter(torch.randn(3)), nn.Parameter(torch.randn(2))
        self.gain = 1.5

    def forward(self, x: Tensor) -> Tensor:
        return x * self.w * self.gain

    @torch.jit.export
    def method(self, x: Tensor) -> Tensor:
        return x + self.w


class Two(nn.Module):
    """Methods that share state; one calls forward, one calls a child's method."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("h", torch.zeros(3))
        self.child = Inner()
        self.linear = nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        self.h.add_(x)
        return self.linear(self.h)

    @torch.jit.export
    def twice(self, x: Tensor) -> Tensor:
        return self.forward(x) + self.forward(x * 2)

    @torch.jit.export
    def peek(self) -> Tensor:
        return self.h * 1

    @torch.jit.export
    def through(self, x: Tensor) -> Tensor:
        return self.child.method(x) - self.h


class Swapped(nn.Module):
    """Which child runs is told by a flag that the call sets."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(3, 3), nn.Linear(3, 3)
        self.first = True

    def forward(self, x: Tensor) -> Tensor:
        self.first = not self.first
        return self.a(x) if self.first else self.b(x)


class Remembers(nn.Module):
    """The call before, from None on."""

    last: Tensor | None

    def __init__(self) -> None:
        super().__init__()
        self.last = None

    def forward(self, x: Tensor) -> Tensor:
        last = self.last
        self.last = x * 1
        return x if last is None else x + last


ENDLESS = "a list that grows by an entry with every call has no bound, and memory that is planned has one"

CASES = [
    Case("F5", "in_place", InPlace, calls(*THREE)),
    Case("F5", "in_place_scripted", InPlace, calls(*THREE), form="script"),
    Case("F5", "through_views", ThroughViews, calls(*THREE)),
    Case("F5", "through_views_scripted", ThroughViews, calls(*THREE), form="script"),
    Case("F5", "reassigned", Reassigned, calls(*THREE, X)),
    Case("F5", "reassigned_scripted", Reassigned, calls(*THREE, X), form="script"),
    Case("F5", "buffer_reassigned", BufferReassigned, calls(*THREE)),
    Case("F5", "state_of_children", ChildState, calls(*THREE)),
    Case("F5", "state_of_children_scripted", ChildState, calls(*THREE), form="script"),
    Case(
        "F5",
        "instance_norm_statistics",
        InstanceStatistics,
        calls(randn(2, 3, 4), randn(2, 3, 4, seed=1)),
    ),
    Case("F5", "streaming_gru", StreamingGru, calls(randn(3, 2, 3), randn(1, 2, 3), randn(3, 2, 3))),
    Case("F5", "state_over_signatures", InPlace, calls(X, randn(1, 3)[0], randn(1), Y), form="script"),
    Case(
        "F6",
        "list_appended",
        Appends,
        calls((X, 1), (Y, 2), (Z, 3)),
        form="script",
        refused="ever new forms",
        why=ENDLESS,
    ),
    Case("F6", "list_appended_eager", Appends, calls((X, 1), (Y, 2), (Z, 3)), refused="ever new forms", why=ENDLESS),
    Case("F6", "entries_written", WritesContainers, calls(*THREE), form="script"),
    Case("F6", "entries_written_eager", WritesContainers, calls(*THREE)),
    Case("F7", "view_of_written", Aliases, calls(*THREE)),
    Case("F7", "view_of_written_scripted", Aliases, calls(*THREE), form="script"),
    Case("F7", "same_tensor_twice", SameTensorTwice, calls(*THREE), form="script"),
    Case("F7", "harmless_overlap", Overlap, calls(X), form="script"),
    Case("F9", "shared_counter", SharedCounter, calls(*THREE)),
    Case(
        "F10",
        "settings",
        Settings,
        [*calls(X), Assign("scale", -0.5), *calls(X), Assign("limit", 4), Read("limit"), *calls(X), Read("scale")],
        preserved=("scale", "limit"),
        form="script",
    ),
    Case(
        "F10",
        "settings_eager",
        Settings,
        [*calls(X), Assign("scale", -0.5), Assign("bias", Y), *calls(X), Read("bias")],
        preserved=("scale", "bias"),
    ),
    Case(
        "F10",
        "dotted_path",
        Settings,
        [*calls(X), Assign("child.gain", 3.0), *calls(X), Read("child.gain")],
        preserved=("child.gain",),
        entries=("freeze", "optimize_for_inference"),
    ),
    Case(
        "F12",
        "live_submodule",
        Settings,
        [*calls(X), Assign("child.w", nn.Parameter(Y)), *calls(X)],
        preserved=("child",),
    ),
    Case(
        "F14",
        "methods_share_state",
        Two,
        [*calls(X), Call((Y,), "twice"), Call((), "peek"), Call((Z,), "through"), *calls(X), Call((), "peek")],
        preserved=("twice", "peek", "through"),
    ),
    Case(
        "F14",
        "methods_share_state_scripted",
        Two,
        [*calls(X), Call((Y,), "twice"), Call((), "peek"), Call((Z,), "through"), *calls(X), Call((), "peek")],
        preserved=("twice", "peek", "through"),
        form="script",
    ),
    Case(
        "F15",
        "method_of_a_submodule",
        Two,
        [*calls(X), Call((Y,), "child.method")],
        preserved=("child.method",),
        entries=("freeze",),
        form="script",
    ),
    Case("F16", "none_at_first", Remembers, calls(*THREE), form="script"),
    Case("F28", "child_chosen_by_state", Swapped, calls(*THREE), form="script"),
]
