"""Random scripted programs: a grammar whose rules are templates, from a seed to the source of a module of classes.

Names of types: v float[3], m float[2, 3], s float[], k int64[3], i int, f float, b bool, L List[int], T List[Tensor]
(all v), D Dict[str, int], E Dict[str, Tensor] (all v), P Tuple[Tensor, int], O Optional[Tensor], Q Optional[int].
In a template {v} is an expression of that type, {V_v} a variable that may be assigned, {n} a small literal, {q} a
literal that float32 holds exactly, {new} a fresh name. Arithmetic on floats is chosen so that results are exact, and
both computations take the same branches.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass, field
from typing import Any

import torch

ANNOTATIONS = {
    "v": "Tensor", "m": "Tensor", "s": "Tensor", "k": "Tensor", "i": "int", "f": "float", "b": "bool",
    "L": "List[int]", "T": "List[Tensor]", "D": "Dict[str, int]", "E": "Dict[str, Tensor]",
    "P": "Tuple[Tensor, int]", "O": "Optional[Tensor]", "Q": "Optional[int]",
}  # fmt: skip

EXPRESSIONS: dict[str, list[str]] = {
    "v": [
        "({v} + {v})", "({v} - {v})", "({v} * {q})", "(-{v})", "{v}.abs()", "torch.relu({v})",
        "torch.maximum({v}, {v})",
        "{m}[{r2}]", "{m}[{i} % 2]", "{m}.sum(0)", "{k}.float()", "torch.where({v} > {s}, {v}, {v})", "({v} + {i})",
        "({v} * {f})", "{v}.clamp(-4.0, 4.0)", "{v}.clone()", "torch.zeros(3)", "torch.full([3], {q})", "{T}[{r2}]",
        "{v}.floor()", "{P}[0]", "{E}['a']", "{E}['z']", "{v}.flip(0)", "{v}.view(3)", "{v}.contiguous()",
        "{v}.reshape(-1)", "{v}.to(torch.float32)", "{v}.detach()", "torch.dropout({v}, 0.5, False)",
        "({m}.diagonal().sum() * {v})",
        "torch.stack({T}).sum(0)", "{m}.unbind(0)[{r2}]", "({v}[{v} > 9.0].sum() + {v})",
        "({v} if {b} else {v})", "{v}.expand(3)", "{m}.split(1)[{r2}].squeeze(0)", "{m}.t()[:, {r2}]",
        "torch.tensor([{f}, {f}, 1.5])", "torch.tensor([{i}, {i}, 2]).float()", "{T}[{i} % 2]", "({v} / {n1})",
        "{v}.as_strided([3], [1])", "{v}[None][0]", "{v}[torch.tensor([2, 0, 1])]", "{v}.masked_fill({v} > 1.0, {q})",
        "torch.add({v}, {v}, alpha={n})", "{v}.cumsum(0)", "torch.cat([{v}[:1], {v}[1:]])", "{v}.type_as({m})",
    ],
    "m": [
        "({m} + {m})", "({m} + {v})", "({m} * {q})", "torch.stack([{v}, {v}])", "{v}.expand(2, 3)", "{m}.clone()",
        "{m}.t().t()", "{m}.view(6).view(2, 3)", "{m}.t().reshape(2, 3)", "{m}.t().contiguous().t()", "{m}.flip(1)",
        "torch.zeros(2, 3)", "({m} if {b} else {m})", "{m}.reshape(3, 2).t().contiguous().view(2, 3)", "({m} * {i})",
        "{v}.unsqueeze(0).repeat(2, 1)", "torch.where({m} > {v}, {m}, {v})", "{m}.contiguous()",
    ],
    "s": [
        "{v}.sum()", "{v}[{r3}]", "{v}[{i} % 3]", "{m}.max()", "{v}.min()", "torch.tensor({f})", "torch.tensor({q})",
        "({s} * {q})", "({s} + {s})", "{m}[{r2}][{r3}]", "{m}[{r2}, {i} % 3]", "{v}.select(0, {r3})", "{s}.clone()",
    ],
    "k": [
        "({k} + {k})", "({k} * {n})", "({k} // {n1})", "({k} % {n1})", "{v}.clamp(-50.0, 50.0).int().long()",
        "torch.arange(3)", "({v} > {v}).long()", "torch.tensor([{i}, {i}, {n}])", "{k}.clone()", "({k} + {i})",
        "torch.full([3], {i})", "torch.div({k}, {n1}, rounding_mode='trunc')", "({k} << 1)", "({k} >> 1)", "(-{k})",
        "{v}.argsort()", "torch.bitwise_and({k}, {n})", "{k}.flip(0)", "torch.zeros([3], dtype=torch.int64)",
    ],
    "i": [
        "({i} + {i})", "({i} - {i})", "(({i} * {i}) % 17)", "({i} // {n1})", "({i} % {n1})", "(-{i})", "abs({i})",
        "min({i}, {i})", "max({i}, {i})", "int({f})", "int({s})", "int({b})", "len({L})", "{L}[{r2}]", "{L}[{i} % 2]",
        "int({k}[{r3}])", "int({v}.argmax())", "({i} & {i})", "({i} | {n})", "({i} ^ {n})", "(({i} % 5) << {n3})",
        "({i} >> {n3})", "int({v}.sum().item())", "{D}['a']", "{D}['z']", "{P}[1]", "({i} if {b} else {i})",
        "{v}.size(0)", "{m}.shape[0]", "int(({i} % 4) ** 2)", "int(round({i}))", "math.floor({f})", "math.ceil({f})",
        "int({k}.sum())", "len({T})", "sum({L})", "max({L})", "int(torch.tensor({i}))", "({i} // (abs({i}) + 1))",
        "({i} % (abs({i} % 9) + 2))", "({i} // {i})", "({i} << ({i} & 3))", "int(round({f}))", "int({i} > {i})",
        "{v}.numel()", "int({s}.floor())",
        "(1 if {Q} is None else 2)", "(int({f}) // 2)", "(({i} // {n1}) % 9)", "(({i} % {n1}) * 3)", "len({D})",
    ],
    "f": [
        "({f} + {f})", "({f} - {f})", "({f} * {q})", "(-{f})", "abs({f})", "float({i})", "float({s})",
        "min({f}, {f})",
        "max({f}, {f})", "({i} / 4)", "float({v}[{r3}].item())", "float({b})", "({f} // {q1})", "({f} % {q1})",
        "({f} + {i})",
        "({i} * {q})", "float({v}.sum())", "round({f})", "({f} if {b} else {f})", "float({v}.max().item())",
        "({f} / {q1})",
        "float({i} // {n1})", "(math.floor({f}) * 0.5)", "({i} % {q1})", "float(({i} % 3) ** 2)",
        "(({f} % 4.0) ** 2)",
        "math.fabs({f})", "(math.ceil({f}) + 0.5)", "min({i}, {f})", "({q} // ({f} + 100.0))", "({f} // {f})",
        "({f} % {f})", "({f} / {i})", "round({i})", "math.fmod({f}, {q1})",
        "(abs({f}) ** {i})", "float({i} % (abs({i}) + 1))", "math.sqrt(abs({f}))",
    ],
    "b": [
        "({i} > {i})", "({i} == {i})", "({f} < {f})", "({i} <= {n})", "bool({s} > {q})", "bool({v}.sum() > {f})",
        "({b} and {b})", "({b} or {b})", "(not {b})", "bool({i})", "bool({f})", "bool(({v} > {v}).any())",
        "({b} != {b})",
        "bool({v}[{r3}] > {v}[{r3}])", "({f} != {f})", "({O} is None)", "({Q} is not None)", "({i} in {L})",
        "bool(({v} <= {v}).all())", "({i} % 2 == 0)", "bool({s})", "(len({L}) > {n})", "(int({s}) == {i})",
        "({L} == {L})", "bool(torch.equal({v}, {v}))", "({f} >= {i})", "({b} if {b} else {b})", "({D}['a'] < {i})",
    ],
    "L": ["[{i}, {i}]", "[{i}, {n}, {i}]", "({L} + [{i}])", "([0] * 3)", "{L}[:2]", "list({L})", "{L}.copy()",
          "[{i} + j for j in {L}]", "[{i} for _ in range(2)]", "({k}.tolist() if False else {L})"],
    "T": ["[{v}, {v}]", "[{v}, {v}, {v}]", "{T}[:2]", "({T} + [{v}])", "[q * 2 for q in {T}]", "list({m}.unbind(0))"],
    "D": ["{{'a': {i}, 'z': {i}}}"],
    "E": ["{{'a': {v}, 'z': {v}}}"],
    "P": ["({v}, {i})"],
    "O": ["None", "{v}"],
    "Q": ["None", "{i}"],
}  # fmt: skip

STATEMENTS: list[tuple[int, str]] = [
    (6, "{V_v} = {v}"), (2, "{V_m} = {m}"), (2, "{V_s} = {s}"), (2, "{V_k} = {k}"), (6, "{V_i} = {i}"),
    (3, "{V_f} = {f}"), (3, "{V_b} = {b}"), (1, "{V_L} = {L}"), (1, "{V_T} = {T}"), (1, "{V_P} = {P}"),
    (1, "{V_D} = {D}"), (1, "{V_O} = {O}"), (1, "{V_Q} = {Q}"),
    (3, "{V_i} += {i}"), (2, "{V_i} -= {i}"), (1, "{V_f} %= {n1}"), (2, "{V_f} += {f}"),
    (4, "{V_v} += {v}"), (2, "{V_v} *= {q}"), (2, "{V_v}[{r3}] = {f}"), (2, "{V_v}[{i} % 3] = {s}"),
    (2, "{V_v}[1:] = {v}[:2]"), (2, "{V_v}[:2] *= {q}"), (2, "{V_v}.add_({v})"), (1, "{V_v}.zero_()"),
    (1, "{V_v}.copy_({v})"), (1, "{V_v}.clamp_(-2.0, 2.0)"), (1, "torch.relu_({V_v})"), (1, "{V_v}.fill_({f})"),
    (2, "{V_m}[{r2}] = {v}"), (2, "{V_m}[{i} % 2] += {v}"), (2, "{V_m}[:, {r3}] = {f}"),
    (2, "{V_m}[{r2}, {r3}] += {f}"), (1, "{V_m}.t()[{r3}].add_({f})"),
    (1, "{V_m}.diagonal().mul_({q})"), (2, "{V_m}[{i} % 2, {r3}] = {f}"),
    (1, "{V_m}.view(-1)[{r3}] = {s}"), (1, "{V_k}[{r3}] = {i}"), (1, "{V_k} += {k}"), (1, "{V_s} += {s}"),
    (2, "{V_v} = {V_m}[{r2}]"), (2, "{V_v} = {V_v}"), (2, "{V_v} = {V_v}.view(3)"), (1, "{V_m} = {V_m}.t().t()"),
    (2, "{V_v} = {V_m}[{i} % 2]"), (2, "{V_v} = {V_T}[{r2}]"), (1, "{V_s} = {V_v}[{r3}]"), (1, "{V_m} = {V_m}"),
    (1, "{V_v} = {V_v}.contiguous()"), (1, "{V_v} = {V_m}.reshape(6)[{r3}:][:3]"), (1, "{V_v} = {V_P}[0]"),
    (1, "{V_v} = {V_m}.unbind(0)[{r2}]"), (1, "{V_v} = {V_E}['a']"), (1, "{V_v} = {V_m}.t().reshape(-1)[:3]"),
    (1, "{V_v} = {V_m}.chunk(2)[{r2}].view(-1)"), (1, "{V_m} = {V_v}.expand(2, 3)"),
    (2, "{V_L}.append({i})"), (2, "{V_L}[{r2}] = {i}"), (1, "{V_L}[{i} % 2] = {i}"), (1, "{V_L}[{r2}] += {i}"),
    (1, "{V_L}.reverse()"), (1, "{V_L}.append({V_L}.pop(0))"), (1, "{V_L} = {V_L}"),
    (1, "{V_L}.extend([{i}])"), (1, "{V_L}.insert(1, {i})"), (1, "{V_L}.sort()"),
    (2, "{V_T}.append({v})"), (2, "{V_T}[{r2}] = {v}"), (2, "{V_T}[{r2}].add_({v})"), (1, "{V_T}[{r2}] += {v}"),
    (1, "{V_T}[{i} % 2].mul_({q})"), (1, "{V_T} = {V_T}"), (1, "{V_T} = [{V_v}, {V_v}]"), (1, "{V_P} = ({V_v}, {i})"),
    (2, "{V_D}['a'] = {i}"), (1, "{V_D}['z'] += {i}"), (2, "{V_E}['a'] = {v}"), (1, "{V_E}['z'].add_({f})"),
    (1, "{V_P}[0].add_({f})"), (1, "{V_E} = {{'a': {V_v}, 'z': {V_v}}}"), (1, "{V_D} = {V_D}"), (1, "{V_E} = {V_E}"),
    (1, "{V_v}, {V_i} = {P}"), (1, "{V_i}, {V_i} = {i}, {i}"), (1, "{V_v} = -{V_v}"),
]  # fmt: skip

STATE_EXPRESSIONS = {"v": ["self.h", "self.g"], "m": ["self.m"], "i": ["self.n"], "L": ["self.e"], "f": ["self.f"],
                     "b": ["self.p"], "T": ["self.t"], "D": ["self.d"]}  # fmt: skip
STATE_STATEMENTS: list[tuple[int, str]] = [
    (2, "self.h = {v}"), (1, "self.h += {v}"), (1, "self.h[{r3}] = {f}"), (1, "self.g.add_({v})"), (1, "self.g = {v}"),
    (1, "self.m[{r2}] = {v}"), (1, "self.m[{i} % 2] += {v}"), (1, "self.n += 1"), (1, "self.n = {i} % 50"),
    (1, "self.f = {f}"), (1, "self.p = {b}"), (1, "self.e[{r2}] = {i} % 40"), (1, "self.e = [{i} % 30, {n}]"),
    (1, "self.t[{r2}] = {v}"), (1, "self.t[{r2}].add_({f})"), (1, "self.d['a'] = {i} % 20"), (1, "{V_v} = self.h"),
    (1, "{V_v} = self.m[{r2}]"), (1, "{V_v} = self.h.view(3)"), (1, "{V_L} = self.e"), (1, "{V_T} = self.t"),
    (1, "self.m = {m}"), (1, "self.h = self.g"), (1, "self.h = {V_v}"),
]  # fmt: skip

CALLS = {"v": ["{call_v}"], "i": ["{call_i}"]}


@dataclass
class Scope:
    """Variables in sight: type → names."""

    names: dict[str, list[str]] = field(default_factory=dict)

    def copy(self) -> Scope:
        return Scope({k: list(v) for k, v in self.names.items()})


class Program:
    """One program; `source` is a Python module with a class Model and maybe a class Part and functions."""

    def __init__(self, seed: int) -> None:
        self.random, self.counter = random.Random(seed), 0
        size = self.random.randint(1, 8)
        self.stateful = self.random.random() < 0.4
        self.functions: list[tuple[str, str]] = []  # (name, type of its result); each takes a Tensor v and an int
        self.part = self.random.random() < 0.3
        self.inside = "function"
        chunks = ["import math", "from typing import Dict, List, Optional, Tuple", "import torch",
                  "from torch import Tensor, nn", ""]  # fmt: skip
        for k in range(max(0, self.random.randint(-2, 2))):
            chunks += self._function(k)
        if self.part:
            chunks += self._class("Part", 4)
        chunks += self._class("Model", size)
        self.source = "\n".join(chunks) + "\n"

    # Parts of the module.

    def _function(self, k: int) -> list[str]:
        kind = self.random.choice("vi")
        scope = Scope({"v": ["x"], "i": ["n"]})
        self.inside = "function"
        lines = [f"def g{k}(x: Tensor, n: int) -> {ANNOTATIONS[kind]}:"]
        self.result = kind
        lines += indent(self._body(scope, 3))
        self.functions.append((f"g{k}", kind))
        return [*lines, ""]

    def _class(self, name: str, size: int) -> list[str]:
        init = [
            "super().__init__()", "self.h = torch.tensor([0.5, -1.0, 2.0])", "self.n = 1", "self.f = 0.25",
            "self.register_buffer('g', torch.tensor([1.0, 2.0, -3.0]))", "self.m = torch.ones(2, 3)", "self.p = True",
            "self.e = [2, 5]", "self.t = [torch.zeros(3), torch.ones(3)]", "self.d = {'a': 3, 'z': 1}",
        ]  # fmt: skip
        self.inside = name
        self.result = "v" if name == "Part" else "*"
        if name == "Model" and self.part:
            init.append("self.part = Part()")
        scope = Scope({"v": ["x", "y"], "m": ["u"], "k": ["w"], "i": ["n"], "f": ["c"], "b": ["z"]})
        head = "def forward(self, x: Tensor, y: Tensor, u: Tensor, w: Tensor, n: int, c: float, z: bool):"
        if name == "Part":
            scope = Scope({"v": ["x"], "i": ["n"]})
            head = "def forward(self, x: Tensor, n: int) -> Tensor:"
        body = indent(self._body(scope, size))
        return [f"class {name}(nn.Module):", "    def __init__(self) -> None:", *indent(indent(init)), "",
                f"    {head}", *indent(body), ""]  # fmt: skip

    def _body(self, scope: Scope, size: int) -> list[str]:
        lines: list[str] = []
        clone = self.random.random() < 0.8
        for kind in "vmk":
            if clone:
                lines += [f"{n} = {n} * 1" for n in scope.names.get(kind, [])]
        every = "vmskifbLTDEPOQ"
        kinds = list("vi") if self.inside == "Model" else []
        kinds += self.random.sample(every, self.random.randint(0, size))
        for kind in kinds:
            name = self._fresh(kind)
            annotation = f": {ANNOTATIONS[kind]}" if kind in "LTDEPOQ" else ""
            lines.append(f"{name}{annotation} = {self.expression(kind, scope, 1)}")
            scope.names.setdefault(kind, []).append(name)
        self.returned = self._returned(scope)
        lines += self._block(scope, size, 0, False)
        return [*lines, *self._return(scope)]

    def _returned(self, scope: Scope) -> dict[str, list[str]]:
        return {k: list(v) for k, v in scope.names.items()}

    def _return(self, scope: Scope) -> list[str]:
        if self.result != "*":
            return [f"return {self.expression(self.result, scope, 1)}"]
        names = self.returned
        parts = [n for kind in "vmskifbLTDE" for n in names.get(kind, [])]
        lines: list[str] = []
        for n in names.get("P", []):
            parts += [f"{n}[0]", f"{n}[1]"]
        for n in names.get("O", []):
            fresh = self._fresh("o")
            lines += [f"{fresh} = torch.zeros(3)", f"if {n} is not None:", f"    {fresh} = {n} * 2"]
            parts.append(fresh)
        for n in names.get("Q", []):
            fresh = self._fresh("q")
            lines += [f"{fresh} = -99", f"if {n} is not None:", f"    {fresh} = {n} + 1"]
            parts.append(fresh)
        return [*lines, f"return ({', '.join(parts)})"]

    # Statements.

    def _block(self, scope: Scope, size: int, depth: int, loop: bool) -> list[str]:
        lines: list[str] = []
        while size > 0:
            size -= 1
            roll = self.random.random()
            if depth < 3 and roll < 0.16:
                inner = self.random.randint(1, 4)
                lines += self._if(scope, inner, depth, loop)
            elif depth < 3 and roll < 0.28:
                lines += self._loop(scope, self.random.randint(1, 4), depth)
            elif loop and roll < 0.32:
                lines += [f"if {self.expression('b', scope, 1)}:", f"    {self.random.choice(['break', 'continue'])}"]
            elif depth and roll < 0.34:
                lines += [f"if {self.expression('b', scope, 1)}:", *indent(self._return(scope))]
            elif roll < 0.36:
                lines += self._raise(scope)
            else:
                lines.append(self._simple(scope))
        return lines or ["pass"]

    def _raise(self, scope: Scope) -> list[str]:
        test = f"{self.expression('v', scope, 1)}.sum() > {self.random.choice([9, 30, 100])}"
        if self.random.random() < 0.5:
            return [f"assert not bool({test}), 'asserted'"]
        return [f"if bool({test}):", "    raise ValueError('raised')"]

    def _if(self, scope: Scope, size: int, depth: int, loop: bool) -> list[str]:
        lines = [f"if {self.expression('b', scope, 2)}:", *indent(self._block(scope.copy(), size, depth + 1, loop))]
        if self.random.random() < 0.25:
            lines += [f"elif {self.expression('b', scope, 1)}:", *indent(self._block(scope.copy(), 2, depth + 1, loop))]
        if self.random.random() < 0.6:
            lines += ["else:", *indent(self._block(scope.copy(), size, depth + 1, loop))]
        return lines

    def _loop(self, scope: Scope, size: int, depth: int) -> list[str]:
        inner = scope.copy()
        kind = self.random.randint(0, 6)
        name = self._fresh("j")
        if kind == 0:
            count, test = self._fresh("w"), self.expression("b", scope, 1)
            body = self._block(inner, size, depth + 1, True)
            return [f"{count} = 0", f"while {count} < {self.random.randint(1, 4)} and {test}:", f"    {count} += 1",
                    *indent(body)]  # fmt: skip
        inner.names.setdefault("i", []).append(name)
        if kind == 1 and scope.names.get("L"):
            head = f"for {name} in {self.random.choice(scope.names['L'])}[:3]:"
        elif kind == 2 and scope.names.get("T"):
            inner.names["i"].remove(name)
            inner.names.setdefault("v", []).append(name)
            head = f"for {name} in {self.random.choice(scope.names['T'])}[:3]:"
        elif kind == 3:
            head = f"for {name} in range({self.expression('i', scope, 1)} % 3, {self.random.choice([-2, 4])}, "
            head += f"{self.random.choice([-1, 2, 1])}):"
        elif kind == 4:
            head = f"for {name} in range({self.random.randint(0, 4)}):"
        else:
            head = f"for {name} in range({self.expression('i', scope, 1)} % {self.random.randint(2, 5)}):"
        return [head, *indent(self._block(inner, size, depth + 1, True))]

    def _simple(self, scope: Scope) -> str:
        rules = STATEMENTS + (STATE_STATEMENTS if self.stateful and self.inside in ("Model", "Part") else [])
        for _ in range(50):
            _, template = self.random.choices(rules, [w for w, _ in rules])[0]
            needed = re.findall(r"\{V_(\w)\}", template)
            if all(scope.names.get(kind) for kind in needed):
                return self._fill(template, scope, self.random.randint(0, 2))
        return "pass"

    # Expressions.

    def expression(self, kind: str, scope: Scope, depth: int) -> str:
        names = scope.names.get(kind, [])
        rules = EXPRESSIONS[kind]
        roll = self.random.random()
        if names and (depth <= 0 or roll < 0.3):
            return self.random.choice(names)
        if self.stateful and self.inside in ("Model", "Part") and kind in STATE_EXPRESSIONS and roll < 0.4:
            return self.random.choice(STATE_EXPRESSIONS[kind])
        if kind in ("O", "Q") and names and roll < 0.95:
            return self.random.choice(names)
        if depth > 0 and roll > 0.94:
            call = self._call(kind, scope, depth)
            if call:
                return call
        if depth <= 0:
            return self._literal(kind, scope)
        return self._fill(self.random.choice(rules), scope, depth - 1)

    def _call(self, kind: str, scope: Scope, depth: int) -> str:
        known = [n for n, k in self.functions if k == kind]
        if self.inside == "Model" and self.part and kind == "v":
            known += ["self.part", "self.part"]
        if not known:
            return ""
        return (
            f"{self.random.choice(known)}({self.expression('v', scope, depth - 1)}, {self.expression('i', scope, 0)})"
        )

    def _literal(self, kind: str, scope: Scope) -> str:
        n = self.random.randint(-3, 5)
        simple = {
            "v": "torch.tensor([1.0, -2.0, 0.5])", "m": "torch.ones(2, 3)", "s": "torch.tensor(1.5)", "i": str(n),
            "k": "torch.tensor([3, -1, 2])", "f": f"{n / 2}", "b": self.random.choice(["True", "False"]),
            "L": f"[{n}, 4]", "T": "[torch.zeros(3), torch.ones(3)]", "D": "{'a': 1, 'z': 2}", "O": "None", "Q": "None",
            "E": "{'a': torch.ones(3), 'z': torch.zeros(3)}", "P": "(torch.ones(3), 2)",
        }  # fmt: skip
        if kind in ("O", "Q"):
            return f"torch.jit.annotate({ANNOTATIONS[kind]}, None)"
        return simple[kind]

    def _fill(self, template: str, scope: Scope, depth: int) -> str:
        def put(match: re.Match[str]) -> str:
            what = match.group(1)
            if what.startswith("V_"):
                return self.random.choice(scope.names[what[2:]])
            if what in ("O", "Q", "T", "L", "D", "E", "P") and scope.names.get(what):
                return (
                    self.expression(what, scope, 0)
                    if self.random.random() < 0.8
                    else self.expression(what, scope, depth)
                )
            if what in EXPRESSIONS:
                return self.expression(what, scope, depth)
            low, high = {
                "r2": (-2, 1),
                "r3": (-3, 2),
                "n": (-3, 6),
                "n3": (0, 3),
                "n1": (1, 5),
                "q": (-4, 5),
                "q1": (1, 4),
            }[what]
            if what == "n1":
                return str(self.random.choice([1, 2, 3, 5, -2, -3]))
            if what == "q1":
                return str(self.random.choice([0.5, 2.0, -0.25, 4.0]))
            n = self.random.randint(low, high)
            return str(n / 2) if what == "q" else str(n)

        return re.sub(r"\{(\w+)\}", put, template).replace("{{", "{").replace("}}", "}")

    def _fresh(self, kind: str) -> str:
        self.counter += 1
        return f"{kind.lower()}{self.counter}"


def indent(lines: list[str]) -> list[str]:
    return ["    " + line for line in lines]


def calls(seed: int, count: int = 5) -> list[tuple[Any, ...]]:
    """Arguments for a program's forward: few, and quarters of small integers."""
    g = torch.Generator().manual_seed(seed)
    r = random.Random(seed)

    def quarters(*shape: int) -> torch.Tensor:
        return torch.randint(-12, 13, shape, generator=g) / 4

    return [
        (quarters(3), quarters(3), quarters(2, 3), torch.randint(-5, 6, (3,), generator=g), r.randint(-6, 7),
         r.randint(-9, 9) / 4, r.random() < 0.5)
        for _ in range(count)
    ]  # fmt: skip
