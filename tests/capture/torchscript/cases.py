"""What the fuzz found, at its smallest: one method each, with successive calls, and words of the refusal if it is one.

The body is that of a class with `forward`; init makes its attributes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from textwrap import dedent, indent
from typing import Any

import torch

X = torch.tensor([0.0, 1.0, 2.0])
U = torch.arange(6.0).reshape(2, 3)


@dataclass
class Case:
    """A method and its calls; refused: part of the reason, "" if the results have to be torch.jit's."""

    name: str
    body: str
    calls: list[tuple[Any, ...]]
    init: str = ""
    refused: str = ""

    @property
    def source(self) -> str:
        lines = ["import math", "from typing import Dict, List, Optional, Tuple", "import torch",
                 "from torch import Tensor, nn", "class Model(nn.Module):", "    def __init__(self) -> None:",
                 "        super().__init__()"]  # fmt: skip
        return "\n".join([*lines, indent(dedent(self.init), " " * 8), indent(dedent(self.body), " " * 4)]) + "\n"


NUMBERS = [(1.0, 0.1, -7, 2), (-3.5, 2.0, 7, -2), (3.5, -2.0, 0, 3), (1.0, 0.0, 5, 7), (0.0, 0.0, -1, 1)]
NUMBERS += [(math.nan, 1.0, 1, 1), (1.0, math.nan, 2, 2), (2.0, math.inf, 3, 3), (-2.0, math.inf, 9, 4)]
PATHS = "same as another one on some paths only"
H = "self.h = torch.zeros(3)"
VIEWS = [
    "u.unbind(0)[0]", "u.split(1)[1]", "u.chunk(2)[0]", "u.diagonal()", "u.as_strided([2], [1])", "u.detach()",
    "torch.dropout(u, 0.5, False)", "u.to(torch.float32)", "u.contiguous()", "u.reshape(-1)", "u.t().reshape(-1)",
    "u.narrow(1, 0, 2)", "u.flatten()", "u.type_as(u)", "u.squeeze()", "u.expand_as(u)", "u.unflatten(1, [3, 1])",
    "torch.broadcast_to(u, [2, 3])", "torch.ravel(u)", "torch.native_dropout(u, 0.5, False)[0]", "u.tile(1)",
]  # fmt: skip
"""Of which some are views of u, some copies, and some u itself."""
WRITES = "\n".join(
    f"u{k} = u * 1\ny{k} = {v.replace('u.', f'u{k}.').replace('(u', f'(u{k}')}\nif bool(u.sum() > 3):\n    y{k}.add_(1)"
    for k, v in enumerate(VIEWS)
)
CASES = [
    Case(
        "views, copies, and what is either, written",
        "def forward(self, u: Tensor):\n"
        + indent(WRITES, "    ")
        + f"\n    return {', '.join(f'u{k}, y{k}' for k in range(len(VIEWS)))}",
        [(U,), (-U,)],
    ),
    Case(
        "a row with an index of the run is a view: its tensor is written afterwards",
        """
        def forward(self, u: Tensor, n: int):
            u = u * 1
            r, s = u[n], u[0, n]
            u += 1
            return r, s, r + 1, u
        """,
        [(U, 1), (U, 0), (U, -1)],
    ),
    Case(
        "a row with an index of the run is written, through views of it, and read again",
        """
        def forward(self, u: Tensor, n: int, k: int):
            u = u * 1
            r, t = u[n], u[k]
            part = r[1:]
            part *= 2
            t[n] += 10
            r.add_(100)
            return u, r, t, part
        """,
        [(U, 1, 0), (U, 0, 0), (U, -1, 1), (U, 0, -2)],
    ),
    Case(
        "rows in branches and loops",
        """
        def forward(self, u: Tensor, n: int, k: int):
            u = u * 1
            r = u[n]
            for i in range(k):
                u[i % 2] += r
                if bool(r.sum() > 30):
                    r *= 0.5
            return u, r
        """,
        [(U, 1, 5), (U, 0, 7), (U, -1, 0), (U, 0, 1)],
    ),
    Case(
        "a view made in an inner branch shares memory behind the outer one",
        """
        def forward(self, x: Tensor, n: int, k: int):
            y = x * 1
            z = x * 2
            if n > 0:
                if k > 0:
                    z = y.view(3)
            z += 1
            return y, z
        """,
        [(X, 1, 1), (X, 0, 1), (X, 1, 0)],
        refused=PATHS,
    ),
    Case(
        "the old value of an attribute that is assigned is returned",
        """
        def forward(self, x: Tensor):
            old, part = self.h, self.h[1:]
            self.h = x
            return old, part, part + 1, self.h
        """,
        [(X,), (X + 1,), (X + 2,)],
        init=H,
    ),
    Case(
        "a list that is one of two is written",
        """
        def forward(self, x: Tensor):
            a, b = [1, 2], [3, 4]
            c = b
            if bool(x.sum() > 0):
                c = a
            c[0] = 9
            return a, b, c
        """,
        [(X,), (-X,)],
        refused=PATHS,
    ),
    Case(
        "a list that is one of two is read",
        """
        def forward(self, x: Tensor):
            a, b = [1, 2], [3, 4]
            c = b
            if bool(x.sum() > 0):
                c = a
            return a, b, c, c[0] + 1
        """,
        [(X,), (-X,)],
    ),
    Case(
        "a variable becomes another one's list in a loop",
        """
        def forward(self, x: Tensor):
            a, b = [1, 2], [3, 4]
            while bool(x.sum() < 9):
                x = x + 1
                a[0] += 1
                a = b
            a[1] = 7
            return a, b
        """,
        [(X,), (-X,), (X + 9,)],
        refused="becomes another list",
    ),
    Case(
        "a variable becomes another one's tensor in a loop",
        """
        def forward(self, x: Tensor, n: int):
            a, b = x * 1, x * 2
            c = a
            while bool(c.sum() < n):
                a.add_(b)
                c = c + a
                a = b
            return b, c
        """,
        [(X, 0), (X, 10), (X, 30)],
        refused=PATHS,
    ),
    Case(
        "what is tainted in a turn is read in the next",
        """
        def forward(self, x: Tensor, n: float):
            a = x * 1
            b = x * 2
            if bool(x.sum() > 2):
                b = a
            total = x * 0
            while bool(total.sum() < n):
                total = total + a
                b.add_(1)
            return total
        """,
        [(X, 0.5), (X, 3.0)],
        refused=PATHS,
    ),
    Case(
        "an entry of a list with an index of the run is written",
        """
        def forward(self, x: Tensor, n: int):
            l = [x * 1, x * 2]
            l[n].add_(1)
            return l[0], l[1]
        """,
        [(X, 0), (X, 1)],
        refused=PATHS,
    ),
    Case(
        "a loop behind a failed check runs for ever",
        """
        def forward(self, x: Tensor, n: int):
            if bool(x.sum() > 1):
                if n < 0:
                    raise ValueError("negative")
                while n != 0:
                    n -= 1
            return x * n
        """,
        [(X, 0), (X, 5), (X, -1)],
    ),
    Case(
        "an argument is written on one path",
        """
        def forward(self, x: Tensor, n: int):
            z = x
            if n > 0:
                z = x * 2
            z.add_(1)
            return n
        """,
        [(X, 1), (X, 0)],
        refused="argument 'x' is written in place on some path",
    ),
    Case(
        "an attribute is written on one path",
        """
        def forward(self, x: Tensor, n: int):
            z = self.h
            if n > 0:
                z = x * 2
            z.add_(1)
            return z
        """,
        [(X, 1), (X, 0)],
        init=H,
        refused=PATHS,
    ),
    Case(
        "an attribute becomes another one's tensor on one path",
        """
        def forward(self, x: Tensor, n: int):
            if n > 0:
                self.h = self.g
            self.g.add_(x)
            return n
        """,
        [(X, 1), (X, 0)],
        init="self.h, self.g = torch.zeros(3), torch.ones(3)",
        refused=PATHS,
    ),
    Case(
        "reshape gives a view of one layout and a copy of the other",
        """
        def forward(self, x: Tensor, n: int):
            y = x.view(3, 1) * torch.ones(1, 3)
            z = y
            if n > 0:
                z = y.t()
            q = z.reshape(9)
            q.add_(1)
            return z, q
        """,
        [(X, 1), (X, 0)],
        refused=PATHS,
    ),
    Case(
        "reshape gives a copy of a new tensor that is not contiguous",
        """
        def forward(self, x: Tensor, n: int):
            y = x.view(3, 1) * torch.ones(1, 3)
            z = y * 2
            if n > 0:
                z = y.t() + 1
            q = z.reshape(9)
            q.add_(1)
            return z + 1
        """,
        [(X, 1), (X, 0)],
        refused=PATHS,
    ),
    Case(
        "a tensor is written that is expanded",
        """
        def forward(self, x: Tensor):
            y = (x * 1).expand(2, 3)
            y[0].add_(1)
            y.add_(1)
            return y
        """,
        [(X,)],
        refused="a place in memory twice",
    ),
    Case(
        "a tensor is written from another part of it",
        """
        def forward(self, x: Tensor):
            y = x * 1
            z = x * 1
            y[:1].add_(y[2:])
            if bool(x.sum() > 0):
                z[1:] += z[:2]
            return y, z
        """,
        [(X,)],
        refused="a place in memory twice",
    ),
    Case(
        "floats as in C: no division by zero, the quotient is rounded, the first of two that are not in order",
        """
        def forward(self, a: float, b: float, n: int, k: int):
            return a // b, a % b, a / b, n / 2, min(a, b), max(a, b), min(n, a), a * n, float(n) // b, math.fmod(a, b)
        """,
        NUMBERS,
    ),
    Case(
        "ints",
        """
        def forward(self, a: float, b: float, n: int, k: int):
            return n // k, n % k, -n // 3, n % -3, round(n), round(a * 0.5), n << (k & 3), n >> 1, n ^ k, float(n) ** 2
        """,
        NUMBERS,
    ),
    Case(
        "numbers that raise",
        """
        def forward(self, a: float, b: float, n: int, k: int):
            return (n - 5) // (k - 7), math.floor(b), a ** n, n ** k
        """,
        NUMBERS,
    ),
    Case(
        "numbers that raise, before they are used",
        """
        def forward(self, x: Tensor, n: int):
            total = 0
            for i in range(-2, n, 2):
                if i != 4:
                    total += 12 // (i - 4)
                total += int(x.sum() / (i - 6)) + i
            return total, torch.equal(x, x.abs()), torch.equal(x, x[:2]), torch.allclose(x, x.abs(), atol=0.5)
        """,
        [(X, 3), (-X, 6), (X, -4), (X, 7), (X, 9)],
    ),
    Case(
        "a bool as a number is an int",
        """
        def forward(self, x: Tensor, p: bool):
            b = x > 0
            made = torch.full([2], True), torch.full([2], p), torch.full_like(b, p), torch.scalar_tensor(p)
            return made, b + p, b * True, b & p, b == p, b.masked_fill(b, p), x + p, torch.where(b, p, False)
        """,
        [(X, True), (X, False)],
    ),
    Case(
        "a dict made anew in a loop",
        """
        def forward(self, x: Tensor, n: int):
            d = {'a': x, 'b': x * 2}
            while bool(d['a'].sum() < n):
                d = {'a': d['a'] + 1, 'b': d['a'] * 2}
            return d
        """,
        [(X, 3), (X, 30), (X, -4)],
    ),
    Case(
        "an early return in a branch hands out dicts",
        """
        def forward(self, x: Tensor, n: int):
            d = {'a': n, 'b': 2}
            e = {'v': x * 2}
            if n > 3:
                return d, e
            d['a'] = 5
            e['v'] = x * 3
            return d, e
        """,
        [(X, 1), (X, 4)],
    ),
    Case(
        "keys of dicts that are arguments",
        """
        def forward(self, x: Tensor, n: int, name: str):
            d = {1: x, 2: x * 2}
            e = {"1": 10, "2": 20}
            y, z = d.get(n), d.get(n, x * 7)
            made = {n: x * 3, 5: x}
            first, last = d.setdefault(n, x * 9), d.pop(n, x * 8)
            f = dict([(n, x), (3, x)])
            if y is None:
                y = x * 0
            return y, z, first, last, made[2], f[2], e.get(str(n), 5), e.get(name, 6), len(d)
        """,
        [(X, 2, "2"), (X + 1, 2, "2")],
    ),
    Case(
        "what is the same thing: is",
        """
        def forward(self, x: Tensor, n: int, k: int):
            a, l, y = x * 1, [1], x
            m = l
            if n is k:
                y = x + 1
            return y, a is a, a is x, a.view(3) is a, a.to(torch.float32) is a, l is m, l is [1], n is not k
        """,
        [(X, 300, 300), (X, 1, 2), (-X, 2, 2)],
    ),
    Case(
        "a tensor that is one of two: is",
        """
        def forward(self, x: Tensor):
            a, b = x * 1, x * 2
            c = b
            if bool(x.sum() > 0):
                c = a
            return c is a
        """,
        [(X,), (-X,)],
        refused="whether",
    ),
    Case(
        "a list that is one of two: is",
        """
        def forward(self, x: Tensor):
            a, b = [1], [2]
            c = b
            if bool(x.sum() > 0):
                c = a
            return c is a
        """,
        [(X,), (-X,)],
        refused="whether",
    ),
    Case(
        "tensors made of tensors, and those that are them",
        """
        def forward(self, u: Tensor):
            u = u * 1
            v = u.reshape(1, 1, 2, 3)
            a, b = torch.as_tensor(u), torch.as_tensor(u, dtype=torch.float64)
            c = torch.tensor(u.sum() * 1.5, dtype=torch.int64)
            d, e = v.to(memory_format=torch.channels_last), u.to(torch.float32)
            f, g = u.to(torch.float32, False, True), u.to(c)
            h = torch.empty([1, 2, 2, 3]).to(memory_format=torch.channels_last)
            ordered = [t.is_contiguous(memory_format=torch.channels_last) for t in [v, d, h]]
            a += 1
            f += 20
            h.zero_()
            return u, a, b, c, d, e, f, g, h, ordered, [v.is_contiguous(), d.is_contiguous(), h.is_contiguous()]
        """,
        [(U,), (-U,)],
    ),
    Case(
        "devices are compared by name",
        """
        def forward(self, x: Tensor):
            k = 0
            if x.device == torch.device("cuda"):
                k += 1
            if torch.device("cuda:1").type == "cuda":
                k += 2
            if x.device.type == "cpu":
                k += 4
            return x.to(x.device) + k, torch.zeros([2], device=x.device)
        """,
        [(X,)],
    ),
    Case(
        "a long loop in a branch that has to be unrolled after all",
        """
        def forward(self, x: Tensor, u: Tensor):
            y = u * 1
            v = y[0]
            w = v + 1
            if bool(x.sum() > 0):
                entries = [v]
                for i in range(60):
                    w = w + v
                    entries = [entries[-1] + v, v, w][0:2]
                    if i % 30 == 29:
                        entries.append(v)
                w = v + y[1] + len(entries) + entries[0]
                y += 5
            return y, w
        """,
        [(X, U), (-X, U)],
    ),
    Case(
        "lists and dicts that each side makes and then fills",
        """
        def forward(self, x: Tensor):
            if bool(x[0] > 0):
                ts: List[Tensor] = []
                ts.append(x)
                ts.append(x + 1)
                d = {"a": x}
                d["b"] = x * 3
                self.ts = [t * 2 for t in self.ts]
                self.d = {"a": ts}
            else:
                ts: List[Tensor] = []
                ts.append(x * 2)
                ts.append(x + 2)
                d = {"a": x * 2}
                d["b"] = x * 5
                self.ts = [t + x for t in self.ts]
                self.d = {"a": [x * 7, x * 8]}
            return ts[1], d["b"], len(ts), len(d), self.ts[1], len(self.ts), self.d["a"][1]
        """,
        [(X + 1,), (X - 1,), (X + 1,)],
        "self.ts = [torch.zeros(3), torch.ones(3)]\nself.d = {'a': [torch.zeros(3), torch.ones(3)]}",
    ),
    Case(
        "one of two lists, which a side has written",
        """
        def forward(self, x: Tensor):
            a, b = [x, x * 2], [x * 3, x * 4]
            if bool(x[0] > 0):
                a[0] = x * 5
                c = a
            else:
                b[1] = x * 6
                c = b
            return c[0], c[1]
        """,
        [(X + 1,), (X - 1,)],
    ),
    Case(
        "state written in a branch of a branch, through a view that the outer one made",
        """
        def forward(self, x: Tensor):
            if bool(x[1] > -9):
                v = self.m.view(-1)[1:4]
                if bool(x[0] > 0):
                    v.add_(1)
                for i in range(int(x[1])):
                    v.mul_(2)
                    if bool(x[2] > 3):
                        v[0] = 7.0
            else:
                self.m.mul_(3)
            return self.m * 1
        """,
        [(X + 1,), (X - 1,), (X + 2,), (X - 99,), (X,)],
        "self.m = torch.arange(6.0).view(2, 3)",
    ),
]
