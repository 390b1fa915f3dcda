"""Models with data-dependent control flow that are refused, at the line marked "# here", with words of the fix."""

# ruff: noqa: NPY002, PLW0603, E731, RET503, SIM108

import random

import numpy as np
import torch
from torch import nn

from tests.capture.scripting.obstacles import Config, X

WEIGHT = torch.ones(3)
COUNT = 0


class ClosedTensor(nn.Module):
    def forward(self, x):
        if x.sum() > 0:
            x = x * WEIGHT  # here
        return x


class WritesGlobal(nn.Module):
    def forward(self, x):
        global COUNT  # here
        COUNT += 1
        if x.sum() > 0:
            x = x * COUNT
        return x


class Try(nn.Module):
    def forward(self, x):
        try:  # here
            if x.sum() > 0:
                x = x + 1
        except ValueError:
            pass
        return x


class Generator(nn.Module):
    def rows(self, x):
        for i in range(x.size(0)):
            yield x[i]  # here

    def forward(self, x):
        y = torch.zeros(3)
        for r in self.rows(x):
            if r.sum() > 0:
                y = y + r
        return y


class LambdaPassed(nn.Module):
    def forward(self, x):
        f = lambda t: t * 2  # here
        for g in (f, torch.neg):
            if x.sum() > 0:
                x = g(x)
        return x


class NestedSteps(nn.Module):
    def forward(self, x):
        def f(t):  # here
            t = t + 1
            return t * 2

        if x.sum() > 0:
            x = f(x)
        return x


class VarArgsDiffer(nn.Module):
    def join(self, *xs):  # here
        return sum(xs)

    def forward(self, x):
        if x.sum() > 0:
            x = x + 1
        return self.join(x) + self.join(x, x)


class FSpecValue(nn.Module):
    def forward(self, x, n: int):
        name = f"{n:03d}"  # here
        if x.sum() > 0 and name == "003":
            x = x + 1
        return x


class NumpyRandom(nn.Module):
    def forward(self, x):
        if x.sum() > 0:
            x = x * float(np.random.rand())  # here
        return x


class NumpyArray(nn.Module):
    def forward(self, x):
        if x.sum() > 0:
            x = torch.from_numpy(x.numpy() * 2)  # here
        return x


class SumGenerator(nn.Module):
    def forward(self, x):
        y = sum(x[i] for i in range(4))  # here
        if x.sum() > 0:
            return y
        return -y


class NoneAttribute(nn.Module):
    def __init__(self):
        super().__init__()
        self.h = None

    def forward(self, x):
        if self.h is None:
            self.h = torch.zeros(3)  # here
        if x.sum() > 0:
            self.h = self.h + x[0]
        return self.h * 1


class ReturnTypes(nn.Module):
    def forward(self, x):
        if x.sum() > 0:
            return x, 1
        return x  # here


class ReturnNone(nn.Module):
    def forward(self, x):
        if x.sum() > 0:  # here
            return x


class BranchTypes(nn.Module):
    def forward(self, x):
        if x.sum() > 0:  # here
            k = 1
        else:
            k = 1.5
        return x * k


class BranchDefined(nn.Module):
    def forward(self, x):
        if x.sum() > 0:  # here
            k = x + 1
        if x.sum() > 0:
            return k
        return x


class Reassign(nn.Module):
    def forward(self, x):
        y = 0
        for i in range(4):
            if x[i].sum() > 0:  # here
                y = y + x[i]
        return y


class TupleKeys(nn.Module):
    def forward(self, x):
        found = {(0, 1): x}  # here
        if x.sum() > 0:
            return found[(0, 1)]
        return x


class MixedDict(nn.Module):
    def forward(self, x):
        d = {"x": x, "n": 1}
        if x.sum() > 0:
            return d["x"] * d["n"]  # here
        return x


class MixedList(nn.Module):
    def forward(self, x):
        d = [x, 1]
        if x.sum() > 0:
            return d[0] * d[1]  # here
        return x


class NumpyAttribute(nn.Module):
    def __init__(self):
        super().__init__()
        self.mean = np.ones(3, dtype=np.float32)

    def forward(self, x):
        if x.sum() > 0:
            return x - torch.from_numpy(self.mean)  # here
        return x


class LambdaAttribute(nn.Module):
    def __init__(self):
        super().__init__()
        self.act = lambda t: t * 2

    def forward(self, x):
        if x.sum() > 0:
            return self.act(x)  # here
        return x


class ListOfModules(nn.Module):
    def __init__(self):
        super().__init__()
        self.parts = [nn.Linear(3, 3), nn.Linear(3, 3)]

    def forward(self, x):
        for p in self.parts:  # here
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
            return self.parts[k](x)  # here
        return x


class EmptyListAttribute(nn.Module):
    def __init__(self):
        super().__init__()
        self.seen = []

    def forward(self, x):
        self.seen = [1]  # here
        if x.sum() > 0:
            return x + 1
        return x


class Recursive(nn.Module):
    def go(self, x, n: int):
        if n == 0 or bool(x.sum() > 10):
            return x
        return self.go(x + 1, n - 1)  # here

    def forward(self, x):
        return self.go(x, 3)


class GetAttrArgument(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(3, 3)

    def forward(self, x, name):
        if x.sum() > 0:
            return getattr(self, name)(x)  # here
        return x


class GetAttrWritten(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(3, 3), nn.Linear(3, 3)
        self.name = "a"

    def forward(self, x):
        x = getattr(self, self.name)(x)  # here
        if x.sum() > 1000:
            self.name = "b"
        return x


class Scaled(nn.Module):
    def __init__(self, scale):
        super().__init__()
        self.config = Config(scale=scale)

    def forward(self, x):
        if x.sum() > 0:
            return x + 1
        return x * self.config.scale  # here


class ConfigsDiffer(nn.Module):
    """The second part does not run in the example calls."""

    def __init__(self):
        super().__init__()
        self.a, self.b = Scaled(2.0), Scaled(3.0)

    def forward(self, x, n: int):
        if n > 5:
            return self.b(x)
        return self.a(x)


class WalrusLater(nn.Module):
    def forward(self, x):
        if x.add_(1.0).sum() > 0 and (s := x.mean()) > 0:  # here
            return x * s
        return x


class MatchTuple(nn.Module):
    def forward(self, x):
        match (1, x):  # here
            case (1, y):
                x = y + 1
        if x.sum() > 0:
            return x * 2
        return x


class TernaryTypes(nn.Module):
    def forward(self, x):
        k = 1 if x.sum() > 0 else None  # here
        if k is None:
            return x
        return x * k


class NpRandom(nn.Module):
    def forward(self, x):
        if x.sum() > 0:
            return x * random.random()  # here
        return x


REFUSED = {
    ClosedTensor: ((X,), "register_buffer"),
    WritesGlobal: ((X,), "attribute of the module"),
    Try: ((X,), "test for the case beforehand"),
    Generator: ((X,), "return a list"),
    LambdaPassed: ((X,), "with def"),
    NestedSteps: ((X,), "make it a method"),
    VarArgsDiffer: ((X,), "name the arguments"),
    FSpecValue: ((X, 3), "compare the numbers themselves"),
    NumpyRandom: ((X,), "function of torch"),
    NumpyArray: ((X,), "operators of torch"),
    SumGenerator: ((X,), "convert"),
    NoneAttribute: ((X,), "set it in __init__"),
    ReturnTypes: ((X,), "return the same type everywhere"),
    ReturnNone: ((X,), "same type on both"),
    BranchTypes: ((X,), "same type on both"),
    BranchDefined: ((X,), "set it before the branch"),
    Reassign: ((X,), "same type on both"),
    TupleKeys: ((X,), "use int or str"),
    MixedDict: ((X,), "in different variables"),
    MixedList: ((X,), "in different variables"),
    NumpyAttribute: ((X,), "register_buffer"),
    LambdaAttribute: ((X,), "with def"),
    ListOfModules: ((X,), "nn.ModuleList"),
    IndexedModules: ((X, 1), "enumerate"),
    EmptyListAttribute: ((X,), "set it in __init__"),
    Recursive: ((X,), "as a loop"),
    WalrusLater: ((X,), "statement before"),
    MatchTuple: ((X,), "if and elif"),
    GetAttrArgument: ((X, "a"), "nn.ModuleList"),
    ConfigsDiffer: ((X, 3), "as attributes of the module"),
    GetAttrWritten: ((X,), "is also written"),
    TernaryTypes: ((X,), "same type on both"),
    NpRandom: ((X,), "call it outside"),
}
