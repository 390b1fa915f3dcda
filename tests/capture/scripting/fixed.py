"""The models of refused.py with the fix of their refusal followed."""

import torch
from torch import nn

from tests.capture.scripting import refused


class ClosedTensor(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("weight", torch.ones(3))

    def forward(self, x):
        if x.sum() > 0:
            x = x * self.weight
        return x


class WritesGlobal(nn.Module):
    def __init__(self):
        super().__init__()
        self.count = 0

    def forward(self, x):
        self.count += 1
        if x.sum() > 0:
            x = x * self.count
        return x


class Try(nn.Module):
    def forward(self, x):
        if x.sum() > 0:
            x = x + 1
        return x


class Generator(nn.Module):
    def rows(self, x):
        made = []
        for i in range(x.size(0)):
            made.append(x[i])  # noqa: PERF401
        return made

    def forward(self, x):
        y = torch.zeros(3)
        for r in self.rows(x):
            if r.sum() > 0:
                y = y + r
        return y


class LambdaPassed(nn.Module):
    def double(self, t):
        return t * 2

    def forward(self, x):
        if x.sum() > 0:
            x = self.double(x)
        if x.sum() > 0:
            x = torch.neg(x)
        return x


class NestedSteps(nn.Module):
    def f(self, t):
        t = t + 1
        return t * 2

    def forward(self, x):
        if x.sum() > 0:
            x = self.f(x)
        return x


class VarArgsDiffer(nn.Module):
    def join(self, a, b):
        return a + b

    def forward(self, x):
        if x.sum() > 0:
            x = x + 1
        return x + self.join(x, x)


class FSpecValue(nn.Module):
    def forward(self, x, n: int):
        if x.sum() > 0 and n == 3:
            x = x + 1
        return x


class NumpyRandom(nn.Module):
    def forward(self, x):
        if x.sum() > 0:
            x = x * (torch.rand(()) * 0 + 1)
        return x


class NumpyArray(nn.Module):
    def forward(self, x):
        if x.sum() > 0:
            x = x * 2
        return x


class NoneAttribute(nn.Module):
    def __init__(self):
        super().__init__()
        self.h = torch.zeros(3)

    def forward(self, x):
        if x.sum() > 0:
            self.h = self.h + x[0]
        return self.h * 1


class ReturnTypes(nn.Module):
    def forward(self, x):
        if x.sum() > 0:
            return x, 1
        return x, 0


class ReturnNone(nn.Module):
    def forward(self, x):
        if x.sum() > 0:
            return x
        return -x


class BranchTypes(nn.Module):
    def forward(self, x):
        k = 1.0 if x.sum() > 0 else 1.5
        return x * k


class BranchDefined(nn.Module):
    def forward(self, x):
        k = x
        if x.sum() > 0:
            k = x + 1
        if x.sum() > 0:
            return k
        return x


class Reassign(nn.Module):
    def forward(self, x):
        y = torch.zeros(3)
        for i in range(4):
            if x[i].sum() > 0:
                y = y + x[i]
        return y


class TupleKeys(nn.Module):
    def forward(self, x):
        found = {"0, 1": x}
        if x.sum() > 0:
            return found["0, 1"]
        return x


class MixedDict(nn.Module):
    def forward(self, x):
        y, n = x, 1
        if x.sum() > 0:
            return y * n
        return x


class MixedList(nn.Module):
    def forward(self, x):
        d = (x, 1)
        if x.sum() > 0:
            return d[0] * d[1]
        return x


class NumpyAttribute(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.ones(3))

    def forward(self, x):
        if x.sum() > 0:
            return x - self.mean
        return x


class LambdaAttribute(nn.Module):
    def act(self, t):
        return t * 2

    def forward(self, x):
        if x.sum() > 0:
            return self.act(x)
        return x


class ListOfModules(nn.Module):
    def __init__(self):
        super().__init__()
        self.parts = nn.ModuleList([nn.Linear(3, 3), nn.Linear(3, 3)])

    def forward(self, x):
        for p in self.parts:
            x = p(x)
        if x.sum() > 0:
            return x + 1
        return x


class IndexedModules(nn.Module):
    def __init__(self):
        super().__init__()
        self.parts = nn.ModuleList([nn.Linear(3, 3), nn.Linear(3, 3)])

    def forward(self, x, k: int):
        if x.sum() > 0:
            for i, part in enumerate(self.parts):
                if i == k:
                    return part(x)
        return x


class EmptyListAttribute(nn.Module):
    seen: list[int]

    def __init__(self):
        super().__init__()
        self.seen = [0]

    def forward(self, x):
        self.seen = [1]
        if x.sum() > 0:
            return x + 1
        return x


class Recursive(nn.Module):
    def forward(self, x):
        for _ in range(3):
            if x.sum() > 10:
                return x
            x = x + 1
        return x


class GetAttrArgument(nn.Module):
    def __init__(self):
        super().__init__()
        self.parts = nn.ModuleDict({"a": nn.Linear(3, 3)})

    def forward(self, x, name: str):
        if x.sum() > 0:
            for key, part in self.parts.items():
                if key == name:
                    return part(x)
        return x


class GetAttrWritten(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(3, 3), nn.Linear(3, 3)
        self.name = "a"
        self.second = False

    def forward(self, x):
        x = self.b(x) if self.second else getattr(self, self.name)(x)
        if x.sum() > 1000:
            self.second = True
        return x


class Scaled(nn.Module):
    def __init__(self, scale):
        super().__init__()
        self.scale = scale

    def forward(self, x):
        if x.sum() > 0:
            return x + 1
        return x * self.scale


class ConfigsDiffer(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = Scaled(2.0), Scaled(3.0)

    def forward(self, x, n: int):
        if n > 5:
            return self.b(x)
        return self.a(x)


class WalrusLater(nn.Module):
    def forward(self, x):
        positive = x.add_(1.0).sum() > 0
        s = x.mean()
        if positive and s > 0:
            return x * s
        return x


class MatchTuple(nn.Module):
    def forward(self, x):
        x = x + 1
        if x.sum() > 0:
            return x * 2
        return x


class TernaryTypes(nn.Module):
    def forward(self, x):
        k = 1 if x.sum() > 0 else 0
        if k == 0:
            return x
        return x * k


class NpRandom(nn.Module):
    def forward(self, x, number: float = 0.5):
        if x.sum() > 0:
            return x * number
        return x


class SumGenerator(nn.Module):
    def forward(self, x):
        y = x.sum(0)
        if x.sum() > 0:
            return y
        return -y


FIXED = {broken: globals().get(broken.__name__) for broken in refused.REFUSED}
"""Refused → with its fix."""
