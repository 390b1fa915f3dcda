"""Models that torch.export cannot trace, each with one thing that torch.jit.script does not take as it is.

They are captured all the same: WORKS has example calls of each.
"""

# ruff: noqa: PLC3002, UP031, UP032, N806, B007, E731, SIM108, PYI024, T201, B905

import math
from collections import namedtuple
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional

DEVICE = torch.device("cpu")
DTYPE = torch.float32
SCALE = 2.0
MODE = "up"
SIZES = [1, 2, 3]
TABLE = {"a": 1.0}
X = torch.randn(4, 3, generator=torch.Generator().manual_seed(1)) + 0.5


class ClosedDevice(nn.Module):
    def forward(self, x):
        h = torch.zeros(3, device=DEVICE)
        if x.sum() > 0:
            h = h + x[0]
        return h


class ClosedDtype(nn.Module):
    def forward(self, x):
        h = torch.zeros(3, dtype=DTYPE)
        if x.sum() > 0:
            h = h + x[0]
        return h


class ClosedFloat(nn.Module):
    def forward(self, x):
        if x.sum() > 0:
            x = x * SCALE
        return x


class ClosedStr(nn.Module):
    def forward(self, x):
        if x.sum() > 0 and MODE == "up":
            x = x * 2
        return x


class ClosedList(nn.Module):
    def forward(self, x):
        for k in SIZES:
            if x.sum() > 0:
                x = x - k
        return x


class Shadowed(nn.Module):
    """Names that mean something else outside."""

    def forward(self, x):
        if x.sum() > 0:
            ys = [x[0] * SCALE for SCALE in range(3)]
            for MODE in range(2):
                x = x + MODE
            return ys[0] + ys[2] + x[1]
        return x[0]


class ShapeArgument(nn.Module):
    def zeros(self, shape, value):
        return torch.zeros(shape) + value

    def forward(self, x):
        if x.sum() > 0:
            return self.zeros(x.shape, 2)
        return self.zeros(x.size(), 3)


class ClosedDict(nn.Module):
    def forward(self, x):
        if x.sum() > 0:
            x = x * TABLE["a"]
        return x


class UntypedRange(nn.Module):
    def forward(self, x, max_length):
        for i in range(max_length):
            if x.sum() < 10:
                x = x + 1
        return x


class UntypedInt(nn.Module):
    def forward(self, x, n):
        if x.sum() > 0:
            return x * n, n + 1
        return x, n // 2


class UntypedBool(nn.Module):
    def forward(self, x, flag):
        if flag and x.sum() > 0:
            return x * 2
        return x


class UntypedOptional(nn.Module):
    def forward(self, x, mask=None):
        if mask is not None:
            x = x * mask
        if x.sum() > 0:
            x = x * 2
        return x


def helper(x, n):
    for _ in range(n):
        x = x + 1
    return x


class UntypedHelper(nn.Module):
    def forward(self, x):
        if x.sum() > 0:
            x = helper(x, 3)
        return x


class UntypedMethod(nn.Module):
    def step(self, x, k, names):
        if names == "a":
            return x + k
        return x

    def forward(self, x):
        if x.sum() > 0:
            x = self.step(x, 3, "a")
        return x


class UntypedList(nn.Module):
    def forward(self, xs):
        y = xs[0]
        for x in xs:
            if x.sum() > 0:
                y = y + x
        return y


class With(nn.Module):
    def forward(self, x):
        with torch.no_grad():
            if x.sum() > 0:
                x = x + 1
        return x


class WithAutocast(nn.Module):
    def forward(self, x):
        with torch.autocast("cpu", enabled=False):
            if x.sum() > 0:
                x = x + 1
        return x


class Lambda(nn.Module):
    def forward(self, x):
        f = lambda t: t * 2
        if x.sum() > 0:
            x = f(x)
        return x


class NestedDef(nn.Module):
    def forward(self, x):
        def f(t):
            return t * 2

        if x.sum() > 0:
            x = f(x)
        return x


class VarArgs(nn.Module):
    def forward(self, *xs):
        y = xs[0]
        if y.sum() > 0:
            y = y + xs[1]
        return y


class LambdaOfArguments(nn.Module):
    """Arguments are computed once, and names are those of the place where they stand."""

    def forward(self, x):
        k = 2.0
        scaled = lambda t, s=1.0: t * s + t.sum() * k
        both = lambda a, b: [a + c for c in (b, 2 * b)][1]
        k, c = 3.0, 5.0
        y = scaled(x.add_(1.0), s=k)
        if x.sum() > 0:
            y = y + (lambda t: t - x)(scaled(y)) + both(y, c)
        return y, x * 1


class VarArgsInside(nn.Module):
    def join(self, first, *rest, scale=2.0):
        y = first * scale
        for r in rest:
            y = y + r
        return torch.cat([y, *rest]) if len(rest) > 1 else y

    def forward(self, x, *args):
        if x.sum() > 0:
            return self.join(x, *args[1:]) * args[0]
        return self.join(x, args[1], scale=3.0)


class KwArgsInside(nn.Module):
    def inner(self, x, **options):
        if "bias" in options:
            x = x + options["bias"]
        if x.sum() > 0:
            x = x * options.get("scale", 2.0)
        return x - options.get("shift", 0.5)

    def outer(self, x, **kwargs):
        return self.inner(x, bias=0.25, **kwargs)

    def forward(self, x, **kwargs):
        return self.outer(x, scale=3.0, **kwargs)


class KwOnly(nn.Module):
    def forward(self, x, *, scale=2.0):
        if x.sum() > 0:
            x = x * scale
        return x


class KwArgs(nn.Module):
    def forward(self, x, **kw):
        if x.sum() > 0:
            x = x * 2
        return x


class CallStar(nn.Module):
    def forward(self, x):
        shape = (4, 3)
        if x.sum() > 0:
            x = x.view(*shape)
        return x


class SetLiteral(nn.Module):
    def __init__(self):
        super().__init__()
        self.mode = 2

    def forward(self, x):
        if self.mode in {1, 2} and x.sum() > 0:
            x = x + 1
        return x


class FSpec(nn.Module):
    def forward(self, x, n: int):
        if x.sum() > 1000:
            raise ValueError(f"too large {n:.2f} {n!r}")
        return x


class Numpy(nn.Module):
    def forward(self, x):
        if x.sum() > 0:
            x = x * float(np.sqrt(2.0))
        return x


class MathCalls(nn.Module):
    def forward(self, x):
        if x.sum() > 0:
            x = x * math.sqrt(2.0) + math.pi
        return x


class CompIf(nn.Module):
    def forward(self, x):
        ys = [x[i] for i in range(4) if i % 2 == 0]
        if x.sum() > 0:
            return ys[0] + ys[1]
        return ys[0]


class CompNested(nn.Module):
    def forward(self, x):
        ys = [x[i, j] for i in range(2) for j in range(2)]
        if x.sum() > 0:
            return ys[0] + ys[3]
        return ys[0]


class DictComp(nn.Module):
    def forward(self, x):
        ys = {str(i): x[i] for i in range(2)}
        if x.sum() > 0:
            return ys["0"] + ys["1"]
        return ys["0"]


class OptionalAttribute(nn.Module):
    def __init__(self):
        super().__init__()
        self.bias: torch.Tensor | None = torch.ones(3)

    def forward(self, x):
        if x.sum() > 0:
            return x + self.bias
        return x


class EmptyIntList(nn.Module):
    def forward(self, x):
        found = []
        for i in range(4):
            if x[i].sum() > 0:
                found.append(i)
            else:
                found.append(-1)
        return torch.tensor(found)


class EmptyTupleList(nn.Module):
    def forward(self, x):
        found = []
        for i in range(4):
            if x[i].sum() > 0:
                x = x + 1
            found.append((x[i], i))
        return found[0][0], found[3][1]


class EmptyDict(nn.Module):
    def forward(self, x):
        found = {}
        found["n"] = 1
        if x.sum() > 0:
            found["n"] = 2
        return x * found["n"]


class IntKeys(nn.Module):
    def forward(self, x):
        found = {0: x, 1: x + 1}
        if x.sum() > 0:
            return found[1]
        return found[0]


@dataclass
class Config:
    hidden: int = 3
    scale: float = 2.0


class ConfigAttribute(nn.Module):
    def __init__(self):
        super().__init__()
        self.config = Config()

    def forward(self, x):
        if x.sum() > 0:
            return x * self.config.scale + self.config.hidden
        return x


class SetAttribute(nn.Module):
    def __init__(self):
        super().__init__()
        self.allowed = {1, 2}
        self.k = 1

    def forward(self, x):
        if self.k in self.allowed and x.sum() > 0:
            return x + 1
        return x


class FunctionAttribute(nn.Module):
    def __init__(self):
        super().__init__()
        self.act = functional.relu

    def forward(self, x):
        if x.sum() > 0:
            return self.act(x)
        return x


class Base(nn.Module):
    def __init__(self):
        super().__init__()
        self.k = 1

    def forward(self, x):
        if x.sum() > 0:
            return x + self.k
        return x


class Super(Base):
    def forward(self, x):
        return super().forward(x) * 2


class SuperTwice(Super):
    def forward(self, x):
        return super().forward(x) - super(Super, self).forward(x)


class SuperMethod(Base):
    def helper(self, x):
        return x * 3

    def forward(self, x):
        y = super().forward(x)
        return self.helper(y)


class TracedChild(nn.Module):
    def __init__(self):
        super().__init__()
        self.child = torch.jit.trace(nn.Linear(3, 3), X)

    def forward(self, x):
        if x.sum() > 0:
            return self.child(x)
        return x


class ScriptedChild(nn.Module):
    def __init__(self):
        super().__init__()
        self.child = torch.jit.script(Base())

    def forward(self, x):
        return self.child(x) * 2


class PropertyAttribute(nn.Module):
    def __init__(self):
        super().__init__()
        self.l = nn.Linear(3, 3)

    @property
    def width(self):
        return self.l.weight.shape[0]

    def forward(self, x):
        if x.sum() > 0:
            return x * self.width
        return x


class GetAttr(nn.Module):
    def __init__(self):
        super().__init__()
        self.a0 = nn.Linear(3, 3)
        self.a1 = nn.Linear(3, 3)

    def forward(self, x):
        for i in range(2):
            x = getattr(self, f"a{i}")(x)
        if x.sum() > 0:
            return x + 1
        return x


class GetAttrNames(nn.Module):
    """Names from variables, attributes, formats and lists; i is read behind the loop."""

    def __init__(self):
        super().__init__()
        self.names, self.kind, self.depth = ["a0", "a1"], "norm", 3
        for i in range(2):
            self.add_module(f"a{i}", nn.Linear(3, 3))
            self.add_module(f"layer_{i + 1}_norm", nn.LayerNorm(3))
            self.register_buffer(f"scale{i}", torch.full((3,), i + 0.5))

    def forward(self, x):
        positive = x.sum() > 0
        for i, name in enumerate(self.names, 1):
            key = f"layer_{i}_{self.kind}"
            if hasattr(self, key):
                x = getattr(self, key)(getattr(self, name)(x))
        for i in range(self.depth - 1):
            name = "scale{}".format(i)
            if positive:
                x = x * getattr(self, name)
            else:
                x = x - getattr(self, "scale%d" % i)
            for k in (1, 0):
                x = getattr(self, "a" + str(i * k))(x)
        return x + i


class IndexedInLoop(nn.Module):
    def __init__(self):
        super().__init__()
        self.parts = nn.ModuleList([nn.Linear(3, 3) for _ in range(3)])
        self.norms = nn.ModuleList([nn.LayerNorm(3) for _ in range(3)])
        self.count = 3

    def forward(self, x):
        for i in range(len(self.parts)):
            y = self.parts[i](x)
            if i < len(self.parts) - 1 and x[0, 0] > 0:
                y = self.norms[i + 1](y)
            x = x + y
        for i, part in enumerate(reversed(self.parts)):
            x = self.norms[self.count - 1 - i](part(x))
        return x


class IsInstance(nn.Module):
    def forward(self, x):
        if isinstance(x, (list, tuple)):
            x = x[0]
        if x.sum() > 0:
            return x + 1
        return x


class Walrus(nn.Module):
    def forward(self, x):
        if (s := x.sum()) > 0:
            return x * s
        return x


class Match(nn.Module):
    def __init__(self):
        super().__init__()
        self.mode = "a"

    def forward(self, x):
        match self.mode:
            case "a":
                x = x + 1
        if x.sum() > 0:
            return x * 2
        return x


class WhileElse(nn.Module):
    def forward(self, x):
        while x.sum() < 3:
            x = x + 1
            if x.max() > 1.5:
                break
        else:
            x = x * 2
        return x


class ForElse(nn.Module):
    def forward(self, x):
        for i in range(3):
            if x[i].sum() > 100:
                break
        else:
            x = x * 2
        return x


class WalrusOrder(nn.Module):
    def forward(self, x):
        x = x.clone()
        if x[0, 0] > 1e6:
            x = x + 1
        elif (s := (t := x.sum()) * 2) > 0 and t < 1e6:
            x = x * s
        y = (r := x.add_(1.0)) + 1
        return y, r


class MatchMore(nn.Module):
    def forward(self, x, mode: int = 2):
        for i in range(4):
            match i:
                case 0 | 3:
                    x = x + 1
                case -1:
                    x = x + 50
                case 1 if x.sum() > 0:
                    x = x * 3
                case _:
                    x = x - 2
        return x


class ElseInside(nn.Module):
    """Breaks of inner loops, in with and match, and the else of each."""

    def forward(self, x):
        y = x * 0
        for i in range(3):
            for j in range(3):
                match j:
                    case 1:
                        if x[i, j] > 0:
                            break
                y = y + 1
            else:
                y = y + 10
            with torch.no_grad():
                if x[i, 0] < -1.0:
                    break
        else:
            y = y + 100
        ks = [10 * i + j for i in range(3) for j in range(i) if j != 1]
        return y * ks[0] + ks[1]


class ChainedCompare(nn.Module):
    def forward(self, x):
        if 0 < x.sum() < 10:
            return x * 2
        return x


Pair = namedtuple("Pair", ["a", "b"])


class PackedSequences(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn = nn.LSTM(1, 2, batch_first=True, bidirectional=True)

    def forward(self, x):
        n = torch.tensor([2, 6, 3])
        y, (h, _) = self.rnn(
            nn.utils.rnn.pack_padded_sequence(
                x.reshape(1, -1, 1)[:, :6].repeat(3, 1, 1), n, batch_first=True, enforce_sorted=False
            )
        )
        return nn.utils.rnn.pad_packed_sequence(y, batch_first=True)[0], h


class NamedTupleOut(nn.Module):
    def forward(self, x):
        if x.sum() > 0:
            return Pair(x, x + 1)
        return Pair(x, x)


class DictOut(nn.Module):
    def forward(self, x):
        out = {"y": x}
        if x.sum() > 0:
            out["y"] = x + 1
        return out


class MixedDictOut(nn.Module):
    def forward(self, x):
        if x.sum() > 0:
            x = x + 1
        return {"y": x, "n": 3}


class Logging(nn.Module):
    def forward(self, x):
        if x.sum() > 0:
            print("positive", x.shape)
            x = x + 1
        return x


class Assertion(nn.Module):
    def forward(self, x):
        assert x.dim() == 2, f"wrong rank {x.dim()}"
        if x.sum() > 0:
            x = x + 1
        return x


class TensorCtor(nn.Module):
    def forward(self, x):
        if x.sum() > 0:
            x = x + torch.Tensor([1, 2, 3])
        return x


class LongTensor(nn.Module):
    def forward(self, x):
        if x.sum() > 0:
            x = x[torch.LongTensor([0, 1])]
        else:
            x = x[torch.LongTensor([1, 2])]
        return x


class NewTensor(nn.Module):
    def forward(self, x):
        if x.sum() > 0:
            x = x + x.new_zeros(3)
        return x.type(torch.float32)


class DataAttr(nn.Module):
    def forward(self, x):
        if x.sum() > 0:
            x = x.data + 1
        return x


class IntDivision(nn.Module):
    def forward(self, x):
        n = int(x.sum())
        return x * (n // 3) + n % 5 + (-n) // 4 + round(n / 3)


class Item(nn.Module):
    def forward(self, x):
        v = x.max().item()
        if v > 0:
            return x / v
        return x


class EnumerateZip(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(3, 3) for _ in range(2)])
        self.norms = nn.ModuleList([nn.LayerNorm(3) for _ in range(2)])

    def forward(self, x):
        for i, (layer, norm) in enumerate(zip(self.layers, self.norms)):
            if x.sum() > 0:
                x = norm(layer(x)) + i + 0.1
        return x


class Counter(nn.Module):
    def __init__(self):
        super().__init__()
        self.n = 0

    def forward(self, x):
        self.n += 1
        return x * self.n


class Shared(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = Counter()
        self.b = self.a

    def forward(self, x):
        return self.a(x) + self.b(x)


class ClassAttr(nn.Module):
    scale = 3.0

    def forward(self, x):
        if x.sum() > 0:
            return x * self.scale
        return x


class StaticM(nn.Module):
    @staticmethod
    def twice(x, k):
        return x * k

    def forward(self, x):
        if x.sum() > 0:
            return self.twice(x, 2)
        return x


class MaxBuiltins(nn.Module):
    def forward(self, x):
        n = max(1, min(3, int(x.sum())))
        return x * n + abs(-n) + sum([1, 2])


class OptionalArg(nn.Module):
    def forward(self, x, h=None):
        if h is None:
            h = torch.zeros(3)
        if x.sum() > 0:
            h = h + x[0]
        return h


WORKS = {
    ClosedDevice: (X,),
    ClosedDtype: (X,),
    ClosedFloat: (X,),
    ClosedStr: (X,),
    ClosedList: (X,),
    Shadowed: (X,),
    ShapeArgument: (X,),
    ClosedDict: (X,),
    UntypedRange: (X, 3),
    UntypedInt: (X, 3),
    UntypedBool: (X, True),
    UntypedOptional: (X,),
    UntypedHelper: (X,),
    UntypedMethod: (X,),
    UntypedList: ([X, X + 1],),
    With: (X,),
    WithAutocast: (X,),
    Lambda: (X,),
    LambdaOfArguments: (X,),
    NestedDef: (X,),
    VarArgs: (X, X + 1),
    VarArgsInside: (X, 2, X + 1),
    KwArgs: (X,),
    KwArgsInside: (X,),
    CompIf: (X,),
    CompNested: (X,),
    Walrus: (X,),
    Match: (X,),
    WhileElse: (X,),
    ForElse: (X,),
    WalrusOrder: (X,),
    MatchMore: (X,),
    ElseInside: (X,),
    KwOnly: (X,),
    CallStar: (X,),
    SetLiteral: (X,),
    FSpec: (X, 3),
    Numpy: (X,),
    MathCalls: (X,),
    DictComp: (X,),
    OptionalAttribute: (X,),
    EmptyIntList: (X,),
    EmptyTupleList: (X,),
    EmptyDict: (X,),
    IntKeys: (X,),
    ConfigAttribute: (X,),
    SetAttribute: (X,),
    FunctionAttribute: (X,),
    Base: (X,),
    Super: (X,),
    SuperTwice: (X,),
    SuperMethod: (X,),
    TracedChild: (X,),
    ScriptedChild: (X,),
    PropertyAttribute: (X,),
    GetAttr: (X,),
    GetAttrNames: (X,),
    IndexedInLoop: (X,),
    IsInstance: (X,),
    ChainedCompare: (X,),
    NamedTupleOut: (X,),
    PackedSequences: (X,),
    DictOut: (X,),
    MixedDictOut: (X,),
    Logging: (X,),
    Assertion: (X,),
    TensorCtor: (X,),
    LongTensor: (X,),
    NewTensor: (X,),
    DataAttr: (X,),
    IntDivision: (X,),
    Item: (X,),
    EnumerateZip: (X,),
    Counter: (X,),
    Shared: (X,),
    ClassAttr: (X,),
    StaticM: (X,),
    MaxBuiltins: (X,),
    OptionalArg: (X,),
}
