"""Programs and graphs as text. `parse_*` of `print_*` gives the same program back; parsing is in `neve.ir.parse`.

    symbols s0: 1..64, s1: 2..
    const @layer1.weight: float32[64, 3, 7, 7]  # density 0.25
    state $cache: float32[1, 8]
    attributes {"layer1.cache": {"leaf": 0}}

    method forward {"in_tree": …}
    graph(%x: float32[s0, 3, 224, 224]) {
      %w: float32[64, 3, 7, 7] = constant() {tensor=@layer1.weight}
      %y: float32[s0, 64, 112, 112] = convolution(%x, %w) {stride=(2, 2)}  # layer1  model.py:12
      return %y
    }

A node is one line, but for graphs in its attributes, which follow indented. Attributes at their default are left out.
Names that are no identifiers are quoted as in JSON. The content of constants and states is not in the text; of a weight
with many zeros (`SPARSE`) a comment tells the share that is not zero.
"""

from __future__ import annotations

import enum
import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from neve.ir.graph import ConstTensor, Graph, Node, Origin, Program, StateVar, Value
from neve.ir.index import Index
from neve.ir.types import DType, TensorType
from neve.ir.walk import constants, states

if TYPE_CHECKING:
    from neve.ops.base import Op

RESERVED = frozenset(
    (
        "True",
        "False",
        "None",
        "inf",
        "nan",
        "graph",
        "return",
        *DType.__members__,
    )
)
SPARSE = 0.95
"""The density of a weight (`ConstTensor.density`) up to which its zeros are worth telling."""
_PLAIN = re.compile(r"[A-Za-z0-9_.]+")

Names = Mapping[Any, str]
"""Names of ConstTensors and StateVars, where they differ from their own."""


def __getattr__(name: str) -> Any:
    if name in ("parse_graph", "parse_program", "TextError"):  # parsing imports all the ops, printing must not
        from neve.ir import parse

        return getattr(parse, name)
    raise AttributeError(name)


def print_program(program: Program) -> str:
    """The program as text. Constants that share a name are distinguished as in `constant_names`."""
    names = constant_names(program)
    head = []
    if program.symbols:
        head.append(
            "symbols "
            + ", ".join(f"{s}: {r.min}..{'' if r.max is None else r.max}" for s, r in program.symbols.items())
        )
    head += [f"const {_name('@', names[c])}: {type_text(c.type)}{_density(c)}" for c in constants(program)]
    head += [f"state {_name('$', names[s])}: {type_text(s.type)}{' complex' * s.complex}" for s in states(program)]
    if program.attributes:
        head.append(f"attributes {json.dumps(dict(program.attributes), ensure_ascii=True)}")
    blocks = ["\n".join(head)] if head else []
    for name, m in program.methods.items():
        about: dict[str, Any] = {"in_tree": m.in_tree, "out_tree": m.out_tree, "scalars": list(m.scalars)}
        about["sizes"] = [s and str(s) for s in m.sizes]
        about["complex"] = [sorted(side) for side in m.complex] if any(m.complex) else None
        about_text = json.dumps({k: v for k, v in about.items() if v}, ensure_ascii=True)
        blocks.append(
            f"method {name if name.isidentifier() else json.dumps(name)} {about_text}\n{print_graph(m.graph, names)}"
        )
    return "\n\n".join(blocks) + "\n"


def constant_names(program: Program) -> dict[ConstTensor | StateVar, str]:
    """The name of every constant and state variable in the program's text: its own, with a suffix where two would be
    equal.
    """
    named: dict[ConstTensor | StateVar, str] = {}
    for group in (constants(program), states(program)):
        own = {c.name for c in group}
        taken: set[str] = set()
        for c in group:
            name, i = c.name, 1
            while name in taken or (i > 1 and name in own):
                name, i = f"{c.name}_{i}", i + 1
            taken.add(name)
            named[c] = name
    return named


def print_graph(graph: Graph, names: Names | None = None) -> str:
    """The graph as text, without a final newline."""
    return "\n".join(_graph_lines(graph, names or {}))


def node_text(node: Node) -> str:
    """One line for a message; graphs in attributes are left out."""
    return _head(node, {}) + _comment(node.origin)


def type_text(t: TensorType) -> str:
    return f"{t.dtype}[{', '.join(_dim(d) for d in t.shape)}]"


def _graph_lines(graph: Graph, names: Names) -> Iterator[str]:
    yield f"graph({', '.join(map(_typed, graph.inputs))}) {{"
    for n in graph.nodes:
        inner = [(f.name, value) for f in fields(n.op) if isinstance(value := getattr(n.op, f.name), Graph)]
        if not inner:
            yield f"  {_head(n, names)}{_comment(n.origin)}"
            continue
        yield f"  {_head(n, names)} with{_comment(n.origin)}"
        for name, g in inner:
            first, *rest = _graph_lines(g, names)
            yield f"    {name} = {first}"
            yield from (f"    {line}" for line in rest)
    yield f"  return {', '.join(_name('%', v.name) for v in graph.outputs)}".rstrip()
    yield "}"


def _head(n: Node, names: Names) -> str:
    outs = ", ".join(map(_typed, n.outputs)) + " = " if n.outputs else ""
    attributes = ", ".join(f"{k}={attribute_text(v, names)}" for k, v in shown_attributes(n.op))
    inputs = ", ".join(_name("%", v.name) for v in n.inputs)
    return f"{outs}{n.op.name}({inputs})" + (f" {{{attributes}}}" if attributes else "")


def _comment(origin: Origin) -> str:
    module, source = (" ".join(part.split()) for part in (origin.module, origin.source))
    return f"  # {module}  {source}".rstrip() if module or source else ""


def _density(c: ConstTensor) -> str:
    """A comment for a weight: a float or int8 constant of two dims or more. It rounds, but only a weight of zeros alone
    has the density 0.
    """
    if c.array.ndim < 2 or c.array.size == 0 or not (c.dtype.is_float or c.dtype is DType.int8) or c.density > SPARSE:
        return ""
    return f"  # density {c.density:.3g}"


def _typed(v: Value) -> str:
    return f"{_name('%', v.name)}: {type_text(v.type)}"


def _name(sigil: str, name: str) -> str:
    return sigil + (name if _PLAIN.fullmatch(name) else json.dumps(name))


def shown_attributes(op: Op) -> list[tuple[str, Any]]:
    """Fields that are no graphs and not exactly at their default (-0.0, 0 and False are three values here)."""
    shown = []
    for f in fields(op):
        value = getattr(op, f.name)
        if not isinstance(value, Graph) and (f.default is MISSING or exact(value) != exact(f.default)):
            shown.append((f.name, value))
    return shown


def exact(value: Any) -> Any:
    """A hashable key that is equal for attribute values that mean the same: tells -0.0 from 0.0, 1 from 1.0 and True;
    nan equals nan.
    """
    if isinstance(value, tuple):
        return ("tuple", *(exact(x) for x in value))
    if isinstance(value, (float, np.floating)):
        return ("float", float(value).hex())
    if isinstance(value, (bool, np.bool_)):
        return ("bool", bool(value))
    if isinstance(value, (int, np.integer)):
        return ("int", int(value))
    return value


def attribute_text(value: Any, names: Names | None = None) -> str:
    """An attribute's value. Raises TypeError for what attributes may not hold."""
    if value is None or isinstance(value, (bool, np.bool_)):
        return repr(value if value is None else bool(value))
    if isinstance(value, (int, np.integer)):
        return str(int(value))
    if isinstance(value, (float, np.floating)):
        return _float(float(value))
    if isinstance(value, str):
        return json.dumps(value)
    if isinstance(value, (tuple, list)):
        inner = ", ".join(attribute_text(x, names) for x in value)
        return f"({inner},)" if len(value) == 1 else f"({inner})"
    if isinstance(value, enum.Enum):
        return str(value)
    if isinstance(value, Index):
        return _dim(value)
    if isinstance(value, (ConstTensor, StateVar)):
        return _name("@" if isinstance(value, ConstTensor) else "$", (names or {}).get(value, value.name))
    raise TypeError(f"an attribute may not be a {type(value).__name__}: {value!r}")


def _float(x: float) -> str:
    if math.isnan(x):
        return "nan"
    text = repr(x)
    return text if "." in text or "e" in text or "inf" in text else text + ".0"


def _dim(d: Any) -> str:
    if isinstance(d, int):
        return str(d)
    for s in map(str, d.symbols):
        if s in RESERVED or not s.isidentifier():
            raise ValueError(f"a size symbol cannot be named {s}")
    return str(d).replace(" ", "").replace("%", " % ")  # % at the beginning of a word is a value's name
