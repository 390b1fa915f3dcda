"""Random programs: the source text of an nn.Module and its example calls.

A program is grown statement by statement, and each statement is run as it is added, at once for every size that a
dynamic dim may have in the examples: what eager refuses, or what leaves the range of moderate values, is dropped. So
every program runs, and shapes and dtypes are simply those of the values at hand.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn

LIMIT = 200.0
"""Floats larger than this are not kept; half types lose what is left of them."""
CELLS = 5000
DYNAMIC = (4, 7)
"""The sizes of a dynamic dim in the two worlds that a program grows in; the first is that of the example."""
HEAD = "import torch\nimport torch.nn.functional as F\nfrom torch import nn\n"
NUMBER = re.compile(r"\bself\.(?:l|sh?|sc)(\d+) =|register_buffer\(\"s[hc]?(\d+)")
NAME = re.compile(r"\bv\d+\b")


@dataclass(frozen=True)
class Statement:
    """Lines of a method; writes: it changes something that other names see, so it is kept though nobody reads it."""

    text: str
    init: tuple[str, ...] = ()
    writes: bool = False

    @property
    def defines(self) -> set[str]:
        return {n for line in self.text.splitlines() if (m := TARGETS.match(line)) for n in NAME.findall(m[1])}

    @property
    def reads(self) -> set[str]:
        text = self.text
        if (m := TARGETS.match(text)) and "\n" not in text:
            text = text[m.end() :]
        return set(NAME.findall(text))


_TARGET = r"\(?(?:v\d+|_|self\.\w+)\)?"
TARGETS = re.compile(rf"\s*({_TARGET}(?:, {_TARGET})*) = ")


@dataclass(frozen=True)
class Argument:
    """A tensor argument: how the example is drawn, and its dynamic dims."""

    name: str
    draw: str
    dynamic: tuple[int, ...] = ()


@dataclass(frozen=True)
class Body:
    """A method. form: how the arguments are handed over: "plain", "list", "dict" or "kwargs"."""

    name: str
    arguments: tuple[Argument, ...]
    statements: tuple[Statement, ...]
    results: tuple[str, ...]
    form: str = "plain"

    def pruned(self) -> Body:
        """Without statements and arguments that reach no result."""
        kept: list[Statement] = []
        live = set(self.results)
        for s in reversed(self.statements):
            if s.writes or s.defines & live:
                live |= s.reads
                kept.insert(0, s)
        arguments = tuple(a for a in self.arguments if a.name in live) or self.arguments[:1]
        return replace(self, statements=tuple(kept), arguments=arguments)

    def source(self) -> str:
        names = [a.name for a in self.arguments]
        head = {"list": "self, xs", "dict": "self, xs"}.get(self.form, f"self, {', '.join(names)}")
        lines = [f"def {self.name}({head}):"]
        if self.form == "list":
            lines.append(f"    {', '.join(names)}{',' * (len(names) == 1)} = xs")
        if self.form == "dict":
            lines += [f'    {n} = xs["{n}"]' for n in names]
        for s in self.statements:
            lines += [f"    {line}" for line in s.text.splitlines()]
        results = ", ".join(self.results)
        return "\n".join([*lines, f"    return {results}"])

    def call(self, dims: str) -> str:
        """The dict of `methods=` that has the example call."""
        draws = {a.name: DRAWN.sub(str(DYNAMIC[0]), a.draw) for a in self.arguments}
        shapes = {a.name: "{" + ", ".join(f"{k}: {dims}" for k in a.dynamic) + "}" for a in self.arguments}
        listed, named = ", ".join(draws.values()), ", ".join(f'"{n}": {d}' for n, d in draws.items())
        shown = ", ".join(f'"{n}": {d}' for n, d in shapes.items())
        if self.form == "kwargs":
            parts = [f'"args": (), "kwargs": {{{named}}}']
        else:
            one = {"list": f"[{listed}]", "dict": f"{{{named}}}"}.get(self.form, listed)
            parts = [f'"args": ({one},)']
            shown = {"list": f'"xs": [{", ".join(shapes.values())}]', "dict": f'"xs": {{{shown}}}'}.get(
                self.form, shown
            )
        if any(a.dynamic for a in self.arguments):
            parts.append(f'"dynamic_shapes": {{{shown}}}')
        return "{" + ", ".join(parts) + "}"


@dataclass(frozen=True)
class Program:
    seed: int
    bodies: tuple[Body, ...]
    least: int = 2

    def source(self) -> str:
        init = dict.fromkeys(line for b in self.bodies for s in b.statements for line in s.init)
        indent = "\n        "
        methods = "\n\n".join(b.source() for b in self.bodies).replace("\n", "\n    ")
        calls = "".join(f'\n        "{b.name}": {b.call("n")},' for b in self.bodies)
        return f"""{HEAD}

class Model(nn.Module):
    def __init__(self):
        super().__init__(){"".join(indent + line for line in init)}

    {methods}


def make():
    torch.manual_seed({self.seed})
    model = Model().eval()
    for name, t in (*model.named_parameters(), *model.named_buffers()):
        if t.dim() == 1 and not name.startswith("s"):
            t.data += torch.rand(t.shape, dtype=t.dtype) * 0.5
    n = torch.export.Dim("n", min={self.least}, max=12)
    return model, {{{calls}
    }}
"""


@dataclass
class World:
    """The values of all names for one size of the dynamic dim."""

    n: int
    names: dict[str, Any] = field(default_factory=dict)


class Unfit(Exception):
    """A statement finds no operands."""


class Refused(Exception):
    """A statement cannot be added."""


class Grower:
    """Grows one method of a model; layers and state are shared by all methods of it."""

    def __init__(self, r: random.Random, seed: int, dynamic: bool, kept: Sequence[Statement]) -> None:
        self.r, self.seed = r, seed
        self.kept = list(kept)  # statements of earlier methods, for their layers
        self.statements: list[Statement] = []
        self.arguments: list[Argument] = []
        self.exact: set[str] = set()
        self.order: list[str] = []
        self.pending: list[str] = []
        self.count = 0
        self.sizes = DYNAMIC if dynamic else DYNAMIC[:1]
        self.worlds: list[World] = []

    # --- what statements use ------------------------------------------------------------------------------------------

    def value(self, name: str) -> torch.Tensor:
        return self.worlds[0].names[name]  # type: ignore[no-any-return]

    def shape(self, name: str) -> tuple[int | None, ...]:
        """Sizes, None where dynamic."""
        shapes = [w.names[name].shape for w in self.worlds]
        return tuple(d[0] if len(set(d)) == 1 else None for d in zip(*shapes, strict=True))

    def pick(self, fits: Callable[[torch.Tensor], bool] = lambda t: True, exact: bool = False) -> str:
        """A name whose value fits, one of the last rather than an earlier one."""
        found = [n for n in self.order if (not exact or n in self.exact) and fits(self.value(n))]
        if not found:
            raise Unfit
        return self.r.choice(found[-4:] if self.r.random() < 0.75 else found)

    def floating(self, least: int = 0, most: int = 5, exact: bool = False) -> str:
        return self.pick(lambda t: t.is_floating_point() and least <= t.dim() <= most, exact)

    def integer(self, least: int = 0) -> str:
        return self.pick(
            lambda t: t.dtype in (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8) and t.dim() >= least
        )

    def mask(self) -> str:
        return self.pick(lambda t: t.dtype is torch.bool)

    def like(self, name: str, same_type: bool = True) -> str:
        """A name whose value broadcasts with name's."""
        v = self.value(name)
        return self.pick(lambda t: (t.dtype == v.dtype or not same_type) and _broadcasts(t.shape, v.shape))

    def axis(self, name: str) -> int:
        n = self.value(name).dim()
        if n == 0:
            raise Unfit
        return self.r.randrange(-n, n)

    def static(self, name: str, axis: int) -> int:
        size = self.shape(name)[axis]
        if size is None:
            raise Unfit
        return size

    def new(self) -> str:
        self.count += 1
        return f"v{self.count}"

    def layer(self, made: str) -> str:
        """self.NAME of a layer that __init__ makes."""
        lines = [*(line for s in (*self.kept, *self.statements) for line in s.init), *self.pending]
        used = [int(k) for line in lines for k in map(max, NUMBER.findall(line))]
        name = f"l{max(used, default=-1) + 1}"
        self.pending.append(f"self.{name} = {made}")
        return f"self.{name}"

    # --- growing ------------------------------------------------------------------------------------------------------

    def argument(self, draw: str, dynamic: tuple[int, ...] = ()) -> str:
        name = self.new()
        self.arguments.append(Argument(name, draw, dynamic))
        self.order.append(name)
        self.exact.add(name)
        return name

    def start(self) -> None:
        """All worlds from nothing: layers, state, arguments, then all statements."""
        self.worlds = []
        for n in self.sizes:
            model: Any = nn.Module()
            space = {"torch": torch, "nn": nn, "F": nn.functional, "self": model}
            torch.manual_seed(self.seed)
            world = World(n, space)
            for line in (line for s in self.kept for line in s.init):
                exec(line, space)
            for a in self.arguments:
                draw = a.draw
                if a.dynamic:
                    draw = DRAWN.sub(str(n), draw)
                space[a.name] = eval(draw, space)
            self.worlds.append(world)
            for s in self.statements:
                self.run(world, s)

    def run(self, world: World, s: Statement) -> None:
        for line in s.init:
            exec(line, world.names)
        world.names["self"].eval()
        with torch.no_grad():
            exec(s.text, world.names)

    def storage(self, name: str) -> int:
        return self.value(name).untyped_storage().data_ptr()

    def step(self, steps: Sequence[Callable[[Grower], str]], weights: Sequence[float]) -> bool:
        """One more statement of a kind drawn by the weights."""
        for _ in range(25):
            (made,) = self.r.choices(steps, weights)
            self.pending, count = [], self.count
            try:
                text = made(self)
            except (Unfit, IndexError):
                self.count = count
                continue
            s = Statement(text, tuple(self.pending), bool(WRITES.search(text)))
            if self.add(s, getattr(made, "exact", False)):
                return True
            self.count = count
        return False

    def add(self, s: Statement, exact: bool = False) -> bool:
        try:
            for world in self.worlds:
                self.run(world, s)
            self.check(s)
        except Exception:  # whatever eager raises
            for world in self.worlds:
                for name in s.defines - set(self.order):
                    world.names.pop(name, None)
            if s.writes:
                self.start()
            return False
        new = sorted((s.defines - set(self.order)), key=lambda n: int(n[1:]))
        self.order += new
        if (exact and all(n in self.exact for n in s.reads)) or all(not self.value(n).is_floating_point() for n in new):
            self.exact.update(new)
        if s.writes and any(n not in self.exact for n in s.reads):
            places = {self.storage(n) for n in s.reads}
            self.exact -= {n for n in self.order if self.storage(n) in places and self.value(n).is_floating_point()}
        self.statements.append(s)
        return True

    def check(self, s: Statement) -> None:
        names = set(self.order) | s.defines if s.writes else s.defines
        for world in self.worlds:
            for name in names:
                t = world.names[name]
                if not isinstance(t, torch.Tensor) or t.numel() > CELLS or t.numel() == 0 or t.dim() > 5:
                    raise Refused
                if t.is_sparse:
                    raise Refused
                if (t.is_floating_point() or t.is_complex()) and not bool((t.abs() <= LIMIT).all()):
                    raise Refused
        for name in names:
            if len({w.names[name].dim() for w in self.worlds}) > 1:
                raise Refused

    def leaves(self) -> list[str]:
        """Names that no later statement reads."""
        read = {n for s in self.statements for n in s.reads}
        return [n for n in self.order if n not in read and n not in {a.name for a in self.arguments}]


WRITES = re.compile(r"\w_\(|\] [-+*]?= |^\s*v\d+(\[.*\])? [-+*]= |self\.s\w+\)? [-+*]?= ", re.MULTILINE)
DRAWN = re.compile(r"\bn\b")


def _broadcasts(a: Sequence[int], b: Sequence[int]) -> bool:
    return all(x == y or 1 in (x, y) for x, y in zip(reversed(a), reversed(b), strict=False))


FORMS = ("plain",) * 7 + ("list", "dict", "kwargs")
TYPES = ("float32",) * 12 + ("float64", "float16", "bfloat16")


def generate(seed: int) -> Program:
    """The program of a seed."""
    from tests.fuzz.layers import LAYERS
    from tests.fuzz.steps import FLOW, STATE, STEPS, begin
    from tests.fuzz.wider import WIDER

    r = random.Random(seed)
    dynamic, stateful = r.random() < 0.3, r.random() < 0.25
    table = {**STEPS, **LAYERS, **(STATE if stateful else {}), **(FLOW if r.random() < 0.06 else {})}
    table |= WIDER if r.random() < 0.25 else {}
    steps, weights = list(table), list(table.values())
    dtype = r.choice(TYPES)
    bodies: list[Body] = []
    kept: list[Statement] = []
    for name in ("forward", "other")[: 1 + (r.random() < 0.12)]:
        grower = Grower(r, seed, dynamic, kept)
        begin(grower, dtype)
        grower.start()
        for _ in range(r.randint(4, 14)):
            grower.step(steps, weights)
        leaves = grower.leaves()[-4:] or grower.order[-1:]
        body = Body(name, tuple(grower.arguments), tuple(grower.statements), tuple(leaves), r.choice(FORMS)).pruned()
        bodies.append(body)
        kept += body.statements
    return Program(seed, tuple(bodies), r.choice((1, 2, 3)))
