"""Models whose tensors are each other, or parts of each other, and that write them: one class a way to share memory.

Each is called method by method against itself in eager mode; `refused` says how (eager, script) a capture is refused
that cannot be right, in the words of the reason.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import nn

E = torch.jit.export


class Case(nn.Module):
    refused: ClassVar[dict[str, str]] = {}

    def put(self, **tensors: torch.Tensor) -> None:
        for name, t in tensors.items():
            self.register_buffer(name, t)


class ModuleWithTwoNames(Case):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.BatchNorm1d(3)
        self.b = self.a

    def forward(self, x):
        self.a.running_mean.add_(x)
        return self.b.running_mean * 2


class TensorWithTwoNames(Case):
    def __init__(self) -> None:
        super().__init__()
        t = torch.zeros(3)
        self.put(a=t, b=t)

    def forward(self, x):
        self.a.add_(x)
        return self.b * 2, self.a + self.b


class OneOfTwoNamesAssigned(Case):
    def __init__(self) -> None:
        super().__init__()
        t = torch.zeros(3)
        self.put(b=t, a=t)

    def forward(self, x):
        y = self.b + 1
        self.a = self.a + x
        return y, self.a * 1, self.b * 1

    @E
    def other(self, x):
        return self.b + self.a

    @E
    def third(self, x):
        self.b = self.b * 2 + x
        return self.b + self.a


class AssignedAndWritten(Case):
    refused: ClassVar[dict[str, str]] = {
        "eager": "share memory before or after",
        "script": "several attributes until one of them",
    }

    def __init__(self) -> None:
        super().__init__()
        t = torch.zeros(3)
        self.put(a=t, b=t)

    def forward(self, x):
        self.a = self.a + x
        return self.a * 1

    @E
    def other(self, x):
        self.b.add_(1)
        return self.b + self.a


class Rows(Case):
    def __init__(self) -> None:
        super().__init__()
        t = torch.zeros(4, 3)
        self.put(m=t, r=t[1], c=t[:, 2])

    def forward(self, x):
        self.r.add_(x)
        y = self.m.sum(0)
        self.m.mul_(2)
        self.c.add_(1)
        return y, self.r * 1, self.c * 1

    @E
    def other(self, x):
        self.r.sub_(x * 2)
        return self.m * 1

    @E
    def third(self, x):
        return self.c.sum() + x


class OverlappingSlices(Case):
    def __init__(self) -> None:
        super().__init__()
        t = torch.arange(6.0)
        self.put(p=t[:4], q=t[2:])

    def forward(self, x):
        self.p.add_(x.sum())
        y = self.q * 1
        self.q.mul_(3)
        return y, self.p + 0


class Expanded(Case):
    def __init__(self) -> None:
        super().__init__()
        t = torch.zeros(1, 3)
        self.put(t=t, e=t.expand(4, 3))

    def forward(self, x):
        self.t.add_(x)
        return self.e * 2


class Permuted(Case):
    def __init__(self) -> None:
        super().__init__()
        t = torch.zeros(2, 3, 4)
        self.put(m=t.permute(2, 0, 1), n=t[:, 1:, ::2])

    def forward(self, x):
        self.m[1, :, :].add_(x)
        self.n.mul_(2).add_(1)
        return self.m.sum(0)

    @E
    def other(self, x):
        self.n[:, 0, :] = x[0]
        return self.m * 1


class TiedWeights(Case):
    def __init__(self) -> None:
        super().__init__()
        self.e, self.l = nn.Embedding(4, 3), nn.Linear(3, 4, bias=False)
        self.l.weight = self.e.weight

    def forward(self, x):
        return self.l(x)

    @E
    def other(self, x):
        self.e.weight.detach().mul_(0.5)
        return self.e.weight.detach() * 1

    @E
    def third(self, x):
        return self.e(torch.tensor([1, 2]))


class ParameterWritten(Case):
    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.ones(3))

    def forward(self, x):
        self.w.detach().add_(x)
        return self.w * 2


class Returned(Case):
    """What a call has returned does not change when the state does (in eager it would: results are the caller's)."""

    def __init__(self) -> None:
        super().__init__()
        self.put(h=torch.zeros(2, 3))

    def forward(self, x):
        v = self.h[0]
        self.h.add_(x)
        w = v + 1
        self.h.mul_(2)
        return v, w, self.h[1], self.h.t(), self.h

    @E
    def other(self, x):
        return self.h


class Swapped(Case):
    def __init__(self) -> None:
        super().__init__()
        self.put(a=torch.zeros(3), b=torch.ones(3))

    def forward(self, x):
        self.a, self.b = self.b + x, self.a * 2
        return self.a - self.b

    @E
    def other(self, x):
        self.a.add_(1)
        return self.a - self.b


class BecomesAView(Case):
    refused: ClassVar[dict[str, str]] = {"eager": "share memory before or after", "script": "one tensor after the call"}

    def __init__(self) -> None:
        super().__init__()
        self.put(a=torch.zeros(3), b=torch.zeros(6))

    def forward(self, x):
        self.a = self.b[1:4]
        return self.a * 1

    @E
    def other(self, x):
        self.b.add_(1.0)
        return self.a + x


class InContainers(Case):
    def __init__(self) -> None:
        super().__init__()
        t = torch.zeros(3)
        self.put(b=t)
        self.rows, self.named = [t, torch.ones(3)], {"a": torch.zeros(3), "b": torch.ones(3)}

    def forward(self, x):
        self.rows[0].add_(x)
        y = self.b * 2
        self.b.sub_(1)
        self.named["a"].add_(y)
        return y, self.rows[0] * 1

    @E
    def other(self, x):
        self.named["b"].mul_(2)
        self.rows[1].add_(self.named["a"])
        return self.named["b"] * self.rows[1] + x


class Numbers(Case):
    def __init__(self) -> None:
        super().__init__()
        self.n, self.f, self.last = 1, 0.5, 0
        self.counts = [1, 2]

    def forward(self, x):
        self.n += 1
        self.counts[0] = self.counts[0] + self.n
        self.last = self.n
        return x * self.n + self.counts[0]

    @E
    def other(self, x):
        self.f = self.f * 0.5 + self.n
        self.n = self.n * 2 - self.last
        return x * self.f + self.counts[0] * self.counts[1]

    @E
    def third(self, x):
        return self.forward(x) + self.other(x) * self.n


class Shifted(Case):
    def __init__(self) -> None:
        super().__init__()
        self.put(b=torch.zeros(4, 3))

    def forward(self, x):
        self.b[:-1] = self.b[1:].clone()
        self.b[-1] = x
        return self.b.mean(0)

    @E
    def other(self, x):
        self.b.copy_(torch.roll(self.b, 1, 0))
        self.b[0].copy_(x)
        return self.b.sum(0)


class Converted(Case):
    """Written with copies of another shape and dtype, and read as what they then are."""

    def __init__(self) -> None:
        super().__init__()
        self.put(b=torch.zeros(3), k=torch.zeros(2, 3, dtype=torch.int64))

    def forward(self, x):
        self.b.copy_(x[0].double() / 3)
        return self.b * 1

    @E
    def other(self, x):
        self.k.copy_(x * 5)
        self.b.fill_(x[1])
        return self.k // 2, self.b + self.k


class BranchesWrite(Case):
    def __init__(self) -> None:
        super().__init__()
        t = torch.zeros(2, 3)
        self.put(h=t, r=t[0])

    def forward(self, x):
        if bool(x.sum() > 0):
            self.h.add_(x)
        else:
            self.r.mul_(2)
        return self.r * 1, self.h * 1


class DataSet(Case):
    refused: ClassVar[dict[str, str]] = {"eager": "by .data or set_", "script": "data"}

    def __init__(self) -> None:
        super().__init__()
        self.put(h=torch.zeros(3))

    def forward(self, x):
        self.h.data = self.h + x
        return self.h * 1


CASES: list[Any] = list(Case.__subclasses__())
