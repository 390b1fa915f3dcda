"""Models that keep state where torch.export does not look: what they give depends on how often they were called."""

# ruff: noqa: PLW0603, B006, B008, B010, NPY002

import functools
import itertools
import random
import sys
import uuid
from collections import OrderedDict, deque

import numpy as np
import torch
from torch import nn

CALLS = 0
LOG = [0]
TENSOR = torch.zeros(3)
X = torch.ones(3)


class PlainTensor(nn.Module):
    def __init__(self):
        super().__init__()
        self.h = torch.zeros(3)

    def forward(self, x):
        self.h.add_(x)
        return self.h * 1


class PlainTensorView(nn.Module):
    def __init__(self):
        super().__init__()
        self.h = torch.zeros(2, 3)

    def forward(self, x):
        row = self.h[1]
        row += x
        return self.h * 1


class PlainTensorSlot(nn.Module):
    def __init__(self):
        super().__init__()
        self.h = torch.zeros(2, 3)

    def forward(self, x):
        self.h[0] = self.h[0] * 2 + x
        return self.h * 1


class ListOfTensors(nn.Module):
    def __init__(self):
        super().__init__()
        self.hs = [torch.zeros(3), torch.zeros(3)]

    def forward(self, x):
        self.hs[0].add_(x)
        self.hs[1] = self.hs[1] + x
        return self.hs[0] + self.hs[1]


class DictOfTensors(nn.Module):
    def __init__(self):
        super().__init__()
        self.hs = {"a": torch.zeros(3)}

    def forward(self, x):
        self.hs["a"] = self.hs["a"] + x
        return self.hs["a"] * 1


class Numbers(nn.Module):
    def __init__(self):
        super().__init__()
        self.n, self.f, self.flag = 0, 1.0, True

    def forward(self, x):
        self.n += 1
        self.f = self.f * 0.5
        self.flag = not self.flag
        return x * self.n + self.f + (1 if self.flag else 0)


class Cache(nn.Module):
    def __init__(self):
        super().__init__()
        self.cache = {}

    def forward(self, x):
        if "x" in self.cache:
            return self.cache["x"] + x
        self.cache["x"] = x
        return x * 2


class Tally:
    def __init__(self):
        self.n = 0

    def __call__(self, x):
        self.n += 1
        return x * self.n


class CallableObject(nn.Module):
    def __init__(self):
        super().__init__()
        self.tally = Tally()

    def forward(self, x):
        return self.tally(x)


class ObjectInList(nn.Module):
    def __init__(self):
        super().__init__()
        self.all = [[[[Tally()]]]]

    def forward(self, x):
        return self.all[0][0][0][0](x)


class ClassAttribute(nn.Module):
    calls = 0

    def forward(self, x):
        type(self).calls += 1
        return x * self.calls


class GlobalNumber(nn.Module):
    def forward(self, x):
        global CALLS
        CALLS += 1
        return x * CALLS


class GlobalList(nn.Module):
    def forward(self, x):
        LOG.append(len(LOG))
        return x * LOG[-1]


class GlobalTensor(nn.Module):
    def forward(self, x):
        TENSOR.add_(x)
        return TENSOR * 1


def counter():
    n = 0

    def count(x):
        nonlocal n
        n += 1
        return x * n

    return count


class Closure(nn.Module):
    def __init__(self):
        super().__init__()
        self.count = counter()

    def forward(self, x):
        return self.count(x)


class DefaultArgument(nn.Module):
    def step(self, x, seen=[]):
        seen.append(1)
        return x * len(seen)

    def forward(self, x):
        return self.step(x)


class Iterator(nn.Module):
    def __init__(self):
        super().__init__()
        self.numbers = itertools.count(1)

    def forward(self, x):
        return x * next(self.numbers)


class Deque(nn.Module):
    def __init__(self):
        super().__init__()
        self.last = deque([1.0, 2.0], maxlen=2)

    def forward(self, x):
        self.last.append(self.last[-1] * 2)
        return x * self.last[0]


class Ordered(nn.Module):
    def __init__(self):
        super().__init__()
        self.named = OrderedDict(a=1)

    def forward(self, x):
        self.named["a"] += 1
        return x * self.named["a"]


class NumpyArray(nn.Module):
    def __init__(self):
        super().__init__()
        self.n = np.ones(1)

    def forward(self, x):
        self.n += 1
        return x * float(self.n[0])


class Set(nn.Module):
    def __init__(self):
        super().__init__()
        self.seen = {0}

    def forward(self, x):
        self.seen.add(len(self.seen))
        return x * len(self.seen)


class UnregisteredModule(nn.Module):
    def __init__(self):
        super().__init__()
        self.parts = [Numbers()]

    def forward(self, x):
        return self.parts[0](x)


class UnregisteredBuffer(nn.Module):
    def __init__(self):
        super().__init__()
        self.parts = {"a": nn.BatchNorm1d(3)}
        self.parts["a"].register_buffer("n", torch.zeros(3))

    def forward(self, x):
        self.parts["a"].n.add_(x)
        return self.parts["a"].n * 1


class FunctionAttribute(nn.Module):
    def forward(self, x):
        tally.calls += 1
        return x * tally.calls


def tally():
    pass


tally.calls = 0


class Appended(nn.Module):
    def __init__(self):
        super().__init__()
        self.seen = [0]

    def forward(self, x):
        self.seen.append(1)
        return x * len(self.seen)


class NewAttribute(nn.Module):
    def forward(self, x):
        before = getattr(self, "last", None)
        self.last = x
        return x if before is None else x + before


class SharedCounter(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = Numbers()
        self.b = nn.Sequential(self.a)

    def forward(self, x):
        return self.a(x) + self.b(x)


class SharedList(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = [1, 2]
        self.b = self.a

    def forward(self, x):
        self.a[0] += 1
        return x * self.b[0]


class Hooked(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 3)
        self.n = 0
        self.linear.register_forward_hook(self.hook)

    def hook(self, module, args, out):
        self.n += 1
        return out * self.n

    def forward(self, x):
        return self.linear(x)


class Slots:
    __slots__ = ("n",)

    def __init__(self):
        self.n = 0


SLOTS, TALLY, ITERATOR, NUMBERS = Slots(), Tally(), iter(list(range(1, 1000))), itertools.cycle([1, 2, 3])
RANDOM, GENERATOR = random.Random(0), np.random.default_rng(0)
ROWS = (n for n in range(1, 1000))
HERE = sys.modules[__name__]
PARTIAL = functools.partial(lambda seen, x: seen.append(1) or x * len(seen), [])


class ModuleVariable(nn.Module):
    def forward(self, x):
        HERE.CALLS += 1
        return x * HERE.CALLS


class NewModuleVariable(nn.Module):
    def forward(self, x):
        setattr(HERE, "fresh", getattr(HERE, "fresh", 0) + 1)
        return x * HERE.fresh


class GlobalsDict(nn.Module):
    def forward(self, x):
        globals()["other"] = globals().get("other", 0) + 1
        return x * globals()["other"]


class GlobalObject(nn.Module):
    def forward(self, x):
        return TALLY(x)


class GlobalSlots(nn.Module):
    def forward(self, x):
        SLOTS.n += 1
        return x * SLOTS.n


class GlobalIterator(nn.Module):
    def forward(self, x):
        return x * next(ITERATOR)


class GlobalCycle(nn.Module):
    def forward(self, x):
        return x * next(NUMBERS)


class GlobalGenerator(nn.Module):
    def forward(self, x):
        return x * next(ROWS)


class MapAttribute(nn.Module):
    def __init__(self):
        super().__init__()
        self.numbers = map(abs, range(1, 1000))

    def forward(self, x):
        return x * next(self.numbers)


class PythonRandom(nn.Module):
    def forward(self, x):
        return x * random.random()


class RandomObject(nn.Module):
    def forward(self, x):
        return x * RANDOM.random()


class NumpyGenerator(nn.Module):
    def forward(self, x):
        return x * float(GENERATOR.random())


class NumpyRandom(nn.Module):
    def forward(self, x):
        return x * float(np.random.rand())


class GlobalPartial(nn.Module):
    def forward(self, x):
        return PARTIAL(x)


class DefaultObject(nn.Module):
    def forward(self, x, tally=Tally()):
        return tally(x)


class ClassObject(nn.Module):
    tally = Tally()

    def forward(self, x):
        return self.tally(x)


class NewClassAttribute(nn.Module):
    def forward(self, x):
        type(self).fresh = getattr(type(self), "fresh", 0) + 1
        return x * type(self).fresh


class ClosureNone(nn.Module):
    def __init__(self):
        super().__init__()
        last = None

        def step(x):
            nonlocal last
            before, last = last, 1
            return x if before is None else x + last

        self.step = step

    def forward(self, x):
        return self.step(x)


def counted(function):
    calls = [0]

    @functools.wraps(function)
    def wrapper(self, x):
        calls[0] += 1
        return function(self, x) * calls[0]

    return wrapper


class Decorated(nn.Module):
    @counted
    def forward(self, x):
        return x * 1


class Descriptor:
    def __init__(self):
        self.n = 0

    def __get__(self, owner, kind):
        self.n += 1
        return self.n


class DescriptorAttribute(nn.Module):
    n = Descriptor()

    def forward(self, x):
        return x * self.n


class Nested(nn.Module):
    def __init__(self):
        super().__init__()
        self.all = [[[[[[[[[0]]]]]]]]]

    def forward(self, x):
        last = self.all[0][0][0][0][0][0][0][0]
        last[0] += 1
        return x * last[0]


@functools.lru_cache(None)
def cached(k):
    return [k]


class WritesCached(nn.Module):
    """The cache has nothing before the first call; only a second one shows."""

    def forward(self, x):
        cached(0)[0] += 1
        return x * cached(0)[0]


class OutsideWorld(nn.Module):
    def forward(self, x):
        return x.long() + uuid.uuid4().int % 2**60


SEEN_TWICE = [WritesCached, OutsideWorld]
"""What only a second call of the original shows."""
MODELS = [
    PlainTensor, PlainTensorView, PlainTensorSlot, ListOfTensors, DictOfTensors, Numbers, Cache, CallableObject,
    ObjectInList, ClassAttribute, GlobalNumber, GlobalList, GlobalTensor, Closure, DefaultArgument, Iterator, Deque,
    Ordered, NumpyArray, Set, UnregisteredModule, UnregisteredBuffer, FunctionAttribute, Appended, NewAttribute,
    SharedCounter, SharedList, Hooked, ModuleVariable, NewModuleVariable, GlobalsDict, GlobalObject, GlobalSlots,
    GlobalIterator, GlobalCycle, GlobalGenerator, MapAttribute, PythonRandom, RandomObject, NumpyGenerator, NumpyRandom,
    GlobalPartial, DefaultObject, ClassObject, NewClassAttribute, ClosureNone, Decorated, DescriptorAttribute, Nested,
]  # fmt: skip
