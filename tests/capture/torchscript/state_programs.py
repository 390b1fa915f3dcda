"""Random scripted programs whose state shares memory and changes its shape: from a seed to a module's source and calls.

In a template {p} is an attribute or an entry of one, {y} and {z} are tensors (those and views, locals, the argument),
{v} is what may be assigned, {c} a condition, {n} a small number, {f} a method that may be called. A name stands for the
same wherever it occurs in one template.
"""

from __future__ import annotations

import random

import torch

from tests.capture.torchscript.programs import indent

HEAD = """from typing import Dict, List, Optional, Tuple
import torch
from torch import Tensor, nn

def chk(t: Tensor) -> Tensor:
    return (t * torch.arange(1, t.size(0) + 1)).sum() + 100 * t.size(0)

class Part(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.h = torch.tensor([0.5, 1.0, 2.0])

    def forward(self, x: Tensor) -> Tensor:
        return x

class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = torch.tensor([1.0, 2.0, 3.0])
        self.register_buffer('b', torch.tensor([4.0, 5.0, 6.0]))
        self.c = torch.tensor([7.0])
        self.m = torch.arange(6.0).view(2, 3)
        self.n = 0
        self.flag = False
        self.ts = [torch.zeros(3), torch.ones(2)]
        self.us = [torch.ones(3), torch.ones(3)]
        self.d = {'x': torch.ones(3), 'y': torch.zeros(2)}
        self.part = Part()
"""

TIES = [
    "self.c = self.a", "self.c = self.a[1:]", "self.b = self.m[1]", "self.a = self.m[0]", "self.ts = [self.a, self.a]",
    "self.ts = [self.a, self.b]", "self.us = self.ts", "self.d = {'x': self.a, 'y': self.c}", "self.part.h = self.a",
    "self.part.h = self.b", "self.us = [self.part.h, self.m[1]]", "self.ts = [self.m[0], self.m[1]]",
    "self.register_buffer('b', self.a)", "self.ts = [self.m[1], self.b]",
]  # fmt: skip

PLACES = ["self.a", "self.b", "self.c", "self.ts[0]", "self.ts[-1]", "self.us[0]", "self.us[-1]", "self.d['x']",
          "self.d['y']", "self.part.h"]  # fmt: skip
READ = ["self.m[0]", "self.m[1]", "self.m.view(-1)[1:4]", "l0", "l1", "x"]

VALUES = ["{y}", "{y}", "{y}", "{y}.view(-1)", "{y}.clone()", "{y} * 2", "{y} + 1", "{y}.detach()", "{y}.contiguous()",
          "{y}.flip(0)", "({y} if {c} else {z})"]  # fmt: skip
OTHER_SHAPES = ["{y}[1:] if {y}.size(0) > 1 else {z}", "{y}[:2]", "{y}[:1]", "torch.cat([{y}, {z}])[:4]", "{y}[-2:]",
                "torch.cat([{y}, {y}[:1]]) if {y}.size(0) < 4 else {y}[:1]"]  # fmt: skip

CONDITIONS = ["bool({y}.sum() > {n})", "bool(x[0] > 0)", "{y}.size(0) > 2", "{y}.size(0) == 3", "self.flag",
              "self.n > 2", "len(self.ts) > 2", "self.n % 2 == 0", "bool(x.sum() > 1)"]  # fmt: skip

STATEMENTS = [
    *["{p} = {v}"] * 6, *["l0 = {v}", "l1 = {v}"] * 2, "{y}.add_(1)", "{y}[0] = 5.0", "{y}.mul_(2)", "{y}[:1] += x[0]",
    "{y}.fill_(1.5)", "{y}.copy_({z}[0].clone())", "l0.add_(1)", "l1.mul_(3)", "self.n += 1",
    "self.flag = not self.flag", "self.flag = {c}", "self.m[0] = {y}[0]", "self.m.add_(1)", "self.ts = [{y}, {z}]",
    "self.d = {{'x': {y}, 'y': {z}}}", "self.us[0] = {y}", "self.ts.reverse()", "self.us = [{y}, {y}.clone()]",
    "self.ts = [t * 2 for t in self.ts]", "self.us.append(self.us.pop(0))", "self.ts = list(self.us)",
]  # fmt: skip
LONGER = ["self.ts.append({y})"]
CALLED = ["l0 = self.{f}(x).view(-1)"] * 2

LOOPS = ["for t in self.ts:", "for t in self.us:"]
TURNS = ["for j in range(2):", "for j in range(self.n % 3):", "for j in range(int(x[0]) % 3):"]

EXAMPLE = (torch.tensor([1.0, 0.25, -0.5]),)


class StateProgram:
    """One program: `source` is a Python module with a class Model, whose methods `names` are called."""

    def __init__(self, seed: int) -> None:
        self.seed, self.random = seed, random.Random(seed)
        self.resizes, self.branches = self.random.random() < 0.7, self.random.random() < 0.6
        ties = self.random.choices(TIES, k=self.random.choice([0, 0, 1, 1, 2, 3]))
        self.names = ["forward", "step", "other"][: self.random.randint(1, 3)]
        self.used = self.random.sample(PLACES, self.random.randint(2, 5))
        self.callable: list[str] = []
        lines = [*HEAD.splitlines(), *indent(indent(ties))]
        for name in self.names:
            lines += ["", *indent(self._method(name))]
            self.callable.append(name)
        self.source = "\n".join(lines) + "\n"

    def calls(self, count: int = 8) -> list[tuple[str, tuple[torch.Tensor]]]:
        """Methods and their arguments, one call after the other."""
        r, g = random.Random(self.seed), torch.Generator().manual_seed(self.seed)
        return [(r.choice(self.names), (torch.randint(-8, 9, (3,), generator=g) / 4,)) for _ in range(count)]

    def _method(self, name: str) -> list[str]:
        head = [f"def {name}(self, x: Tensor) -> Tensor:", "    l0 = x * 1", "    l1 = x + 1"]
        export = ["@torch.jit.export"] if name != "forward" else []
        return [*export, *head, *indent(self._block(self.random.randint(1, 5), 0)), f"    return {self._result()}"]

    def _result(self) -> str:
        roll = self.random.random()
        if roll < 0.5:
            parts = ", ".join(f"chk({p})" for p in self.used)
            return f"torch.stack([{parts}, chk(l0), chk(l1), self.m.sum()])"
        return self._fill("chk({y})" if roll < 0.8 else "{y}")

    def _block(self, size: int, depth: int) -> list[str]:
        lines: list[str] = []
        for _ in range(size):
            roll = self.random.random() if self.branches and depth < 2 else 1.0
            if roll < 0.2:
                lines += self._if(depth + 1)
            elif roll < 0.25:
                lines += [self.random.choice(LOOPS), f"    t.{self.random.choice(['add_(1)', 'mul_(2)'])}"]
            elif roll < 0.3:
                lines += [self.random.choice(TURNS), *indent(self._block(self.random.randint(1, 2), depth + 1))]
            else:
                rules = STATEMENTS + (LONGER if self.resizes else []) + (CALLED if self.callable else [])
                lines.append(self._fill(self.random.choice(rules)))
        return lines

    def _if(self, depth: int) -> list[str]:
        lines = [self._fill("if {c}:"), *indent(self._block(self.random.randint(1, 3), depth))]
        if self.random.random() < 0.6:
            lines += ["else:", *indent(self._block(self.random.randint(1, 3), depth))]
        return lines

    def _fill(self, template: str) -> str:
        return template.format_map(_Drawn(self))

    def drawn(self, name: str) -> str:
        """What a template's name stands for this time."""
        r = self.random
        if name == "p" or (name in "yz" and r.random() < 0.7):
            return r.choice(self.used if r.random() < 0.85 else PLACES)
        if name == "n":
            return str(r.randint(-2, 9))
        if name == "f":
            return r.choice(self.callable)
        rules = {"y": READ, "z": READ, "c": CONDITIONS, "v": VALUES + (OTHER_SHAPES if self.resizes else [])}[name]
        return self._fill(r.choice(rules))


class _Drawn(dict[str, str]):
    def __init__(self, program: StateProgram) -> None:
        super().__init__()
        self._program = program

    def __missing__(self, name: str) -> str:
        self[name] = drawn = self._program.drawn(name)
        return drawn
