"""Printing and parsing are inverse, and parsing refuses what is malformed, with its line."""

from __future__ import annotations

import contextlib
import math
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neve.ir.graph import ConstTensor, Graph, GraphBuilder, Method, Origin, Program, StateVar
from neve.ir.parse import TextError, op_classes, parse_graph, parse_program
from neve.ir.text import attribute_text, constant_names, exact, print_graph, print_program
from neve.ir.types import DType, Range, TensorType, symbol
from neve.ir.walk import map_attributes
from neve.ops.base import Op

f32 = DType.float32
s0, s1 = symbol("s0"), symbol("s1")


def make(name: str, **attributes: object) -> Op:
    return op_classes()[name](**attributes)


def full(value: object, dtype: DType = f32, shape: tuple[object, ...] = ()) -> Op:
    return make("full", shape=shape, value=value, dtype=dtype)


def same_graph(a: Graph, b: Graph) -> None:
    """Assert that two graphs are equal but for the identity of values, bit for bit in their attributes."""
    names = dict(zip(a.values(), b.values(), strict=True))
    assert [(v.name, v.type) for v in a.values()] == [(v.name, v.type) for v in b.values()]
    assert [names[v] for v in a.outputs] == list(b.outputs)
    for m, n in zip(a.nodes, b.nodes, strict=True):
        assert type(m.op) is type(n.op) and m.origin == n.origin
        assert [names[v] for v in m.inputs] == list(n.inputs)
        for key in m.op.__dataclass_fields__:
            x, y = getattr(m.op, key), getattr(n.op, key)
            if isinstance(x, Graph):
                same_graph(x, y)
            else:
                assert exact(x) == exact(y)


def sample_graph() -> Graph:
    b = GraphBuilder()
    x = b.input("x", TensorType((s0, 3, 8, 8), f32))
    flag = b.input("the flag", TensorType((), DType.bool))
    b.origin = Origin("layer1.0.conv", "model.py:12")
    w = b(make("constant", tensor=ConstTensor("layer1.weight", np.ones((4, 3, 3, 3), np.float32), f32)))
    y = b(make("convolution", stride=(2, 2), padding=((0, 1), (1, 1)), dilation=(1, 1)), x, w, name="y")
    b.origin = Origin("", "other.py:3")
    z = b(full(0.5, shape=(s0 * 2, 2, s0 // 2)))
    b.origin = Origin("only.module")
    n = b(make("size", value=3 * s0**2 + (s0 + 1) // 2 - s0 % 7))
    for value in (0.0, -0.0, 1e-5, 0.1, math.inf, -math.inf, math.nan, 3.4028234663852886e38, 1, True):
        b(full(value))
    b(full(-(2**63), DType.int64, (s1, 4)))
    b.emit(make("max_pool_indices", kernel=(2, 2), stride=(2, 2), padding=(0, 0), dilation=(1, 1)), x)
    var = StateVar("cache", np.zeros((2,), np.float32), f32)
    r = b(make("read_state", var=var))
    b.emit(make("write_state", var=var), r)
    inner = GraphBuilder()
    p = inner.input("p", TensorType((2,), f32))
    left = inner.build([inner(make("neg"), p)])
    deep = GraphBuilder()
    p = deep.input("p", TensorType((2,), f32))
    deep.origin = Origin("m", "f.py:1")
    right = deep.build([deep(make("if", then=left, orelse=left), deep(full(True, DType.bool)), p)])
    out = b(make("if", then=left, orelse=right), flag, r)
    b.emit(make("raise", message='no "quotes"\n# %x {'))
    return b.build([y, z, n, out, x])


def test_graph_round_trip() -> None:
    graph = sample_graph()
    text = print_graph(graph)
    tables = (
        {"layer1.weight": graph.nodes[0].op.tensor},
        {n.op.var.name: n.op.var for n in graph.nodes if n.op.name == "read_state"},
    )  # type: ignore[attr-defined]
    again = parse_graph(text, *tables)
    same_graph(graph, again)
    assert print_graph(again) == text
    assert (
        "convolution(%x, %constant) {stride=(2, 2), padding=((0, 1), (1, 1)), dilation=(1, 1)}"
        "  # layer1.0.conv  model.py:12" in text
    )


def test_program_round_trip_with_equal_constant_names() -> None:
    graphs = []
    for value in (1, 2):
        b = GraphBuilder()
        x = b.input("x", TensorType((s0, 2), f32))
        c = b(make("constant", tensor=ConstTensor("w", np.full(2, value, np.float32), f32)))
        graphs.append(b.build([b(make("add"), x, c)]))
    tree = {"kind": "tuple", "children": [1, None, "é", -2.5]}
    program = Program(
        {"forward": Method(graphs[0], tree, {"out": True}, (None,)), "en code": Method(graphs[1], scalars=("float",))},
        {s0: Range(1, 8), s1: Range(2)},
    )
    text = print_program(program)
    arrays = {name: c.array for c, name in constant_names(program).items()}
    assert sorted(arrays) == ["w", "w_1"]
    again = parse_program(text, arrays)  # type: ignore[arg-type]
    assert print_program(again) == text
    assert again.symbols == program.symbols
    assert again.methods["forward"].in_tree == tree and again.methods["en code"].scalars == ("float",)
    for name in program.methods:
        node = again.methods[name].graph.nodes[0]
        np.testing.assert_array_equal(node.op.tensor.array, program.methods[name].graph.nodes[0].op.tensor.array)  # type: ignore[attr-defined]


def test_attributes_and_unused_state_round_trip() -> None:
    used, unused = (StateVar(n, np.arange(3, dtype=np.float32), f32) for n in ("used", "unused"))
    b = GraphBuilder()
    graph = b.build([b(make("read_state", var=used))])
    tree = {"a.b": {"tuple": [{"leaf": 0, "view": [1, [2], [1]]}, {"const": 'x"y'}]}, "n": {"leaf": 1}}
    program = Program({"forward": Method(graph)}, {}, (unused, used), tree)
    text, arrays = print_program(program), {"used": used.init, "unused": unused.init}
    again = parse_program(text, {}, arrays)
    assert print_program(again) == text
    assert [s.name for s in again.state] == ["unused", "used"] and again.attributes == tree
    for wrong in ('{"a": {"leaf": 2}}', '{"a": {"tuple": [{"leaf": -1}]}}', "[]"):
        with pytest.raises(TextError, match="line 3: wanted attributes"):
            parse_program(re.sub(r"attributes .*", f"attributes {wrong}", text), {}, arrays)


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ("graph(%x: float32[2]) {\n  %y: float32[2] = nope(%x)\n  return %y\n}", 2, "no op nope"),
        ("graph(%x: float32[2]) {\n  %y: float32[3] = neg(%x)\n  return %y\n}", 2, "neg gives float32"),
        ("graph(%x: float32[2]) {\n\n  %y: float32[2] = neg(%z)\n  return %y\n}", 3, "%z is not defined"),
        ("graph(%x: float32[2]) {\n  %x: float32[2] = neg(%x)\n  return %x\n}", 2, "defined twice"),
        ("graph(%x: float32[2]) {\n  %y: float32[2] = neg(%y)\n  return %y\n}", 2, "%y is not defined"),
        ("graph(%x: float32[2]) {\n  return %x\n", 3, "expected '}'"),
        ("graph(%x: float33[2]) {\n  return %x\n}", 1, "no element type float33"),
        ("graph(%x: float32[-2]) {\n  return %x\n}", 1, "not a size"),
        ("graph(%x: float32[2]) {\n  return %x\n} extra", 3, "expected the end"),
        ("graph() {\n  %c: float32[2] = constant() {tensor=@w}\n  return %c\n}", 2, "@w is not in the table"),
        (
            "graph() {\n  %c: float32[] = full() {shape=(), value=__import__('os'), dtype=float32}\n  return %c\n}",
            2,
            "unexpected",
        ),
        (
            "graph() {\n  %c: float32[] = full() {shape=(), value=1.0, dtype=float32, __class__=1}\n  return %c\n}",
            2,
            "no attribute __class__",
        ),
        (
            "graph() {\n  %c: float32[] = full() {shape=(), value=1.0, value=1.0, dtype=float32}\n  return %c\n}",
            2,
            "value twice",
        ),
        ("graph() {\n  %c: float32[] = full() {shape=()}\n  return %c\n}", 2, "full lacks value"),
        ("graph() {\n  %c: int64[] = size() {value=s0**999999999}\n  return %c\n}", 2, "a power is"),
        ("graph() {\n  %c: int64[] = size() {value=9999999999999999999999}\n  return %c\n}", 2, "too large"),
        ("graph() {\n  %c: int64[] = size() {value=" + "(" * 5000 + "\n", 2, "nested too deeply"),
        ("graph() {\n  %c: int64[] = size() {value=" + "-" * 5000 + "1}\n", 2, "nested too deeply"),
        ("graph() {\n  %c: int64[] = size() {value=s0//0}\n  return %c\n}", 2, "a division by 0"),
        ("graph() {\n  %c: int64[] = size() {value=s0 % -3}\n  return %c\n}", 2, "a division by -3"),
        ('graph() {\n  %c: int64[] = size() {value="text"}\n  return %c\n}\x00', 4, "unexpected"),
        ("", 1, "expected 'graph'"),
    ],
)
def test_malformed_text_is_refused_with_its_line(text: str, line: int, reason: str) -> None:
    with pytest.raises(TextError) as e:
        parse_graph(text)
    assert str(e.value).startswith(f"line {line}: ") and reason in str(e.value)


def test_products_of_sums_do_not_explode() -> None:
    product = "*".join(f"({'+'.join(f'a{i}_{j}' for j in range(6))})" for i in range(12))
    with pytest.raises(TextError):
        parse_graph(f"graph(%x: float32[{product}]) {{ return %x }}")


def test_declared_constants_must_fit_their_arrays() -> None:
    head = "const @w: float32[2]\nmethod forward {}\n"
    text = head + "graph() {\n  %c: float32[2] = constant() {tensor=@w}\n  return %c\n}\n"
    assert parse_program(text, {"w": np.zeros(2, np.float32)}).methods["forward"].graph.outputs[0].shape == (2,)
    for arrays in ({}, {"w": np.zeros(3, np.float32)}, {"w": np.zeros(2, np.float64)}):
        with pytest.raises(TextError, match="line 1: @w"):
            parse_program(text, arrays)


def test_values_that_python_calls_equal_are_told_apart() -> None:
    assert len({exact(v) for v in (0.0, -0.0, 0, False, (0.0,), (-0.0,), (0,))}) == 7
    assert exact(math.nan) == exact(float("nan"))
    b = GraphBuilder()
    x = b.input("x", TensorType((2,), f32))
    pad = b(make("constant_pad", pads=((1, 1),), value=-0.0), x)
    assert "value=-0.0" in print_graph(b.build([pad]))


def test_attributes_may_not_be_arbitrary_objects() -> None:
    with pytest.raises(TypeError):
        attribute_text(object())


@pytest.mark.parametrize("name", sorted(op_classes()))
def test_every_op_sample_round_trips(name: str) -> None:
    try:
        samples = list(op_classes()[name].samples())
    except NotImplementedError:
        pytest.skip("has no samples")
    for sample in samples[:40]:
        b = GraphBuilder()
        types = sample.types or [TensorType(a.shape, DType(a.dtype.name)) for a in sample.inputs]
        inputs = [b.input(f"x{i}", t) for i, t in enumerate(types)]
        graph = b.build(b.emit(sample.op, *inputs))
        constants = {}
        map_attributes(sample.op, lambda v, c=constants: c.setdefault(v.name, v) if isinstance(v, ConstTensor) else v)  # type: ignore[misc]
        same_graph(graph, parse_graph(print_graph(graph), constants))


TEXT = print_graph(sample_graph())
TABLES = (
    {"layer1.weight": ConstTensor("layer1.weight", np.ones((4, 3, 3, 3), np.float32), f32)},
    {"cache": StateVar("cache", np.zeros((2,), np.float32), f32)},
)
PIECES = [
    "%",
    "@",
    "(",
    ")",
    "{",
    "}",
    ",",
    "1",
    "-1",
    "0",
    "s0",
    "nan",
    "inf",
    "None",
    "True",
    "float32",
    "#",
    "*",
    "**",
    "/",
    "1e999",
    "=",
    "[",
    "]",
    "//",
    " % ",
    "%x",
    "@layer1.weight",
    "$cache",
    "é",
]
PIECES += ["", " ", "\n", "\x00", '"', "9" * 30]
EDITS = st.tuples(st.integers(0, len(TEXT)), st.integers(0, 8), st.sampled_from(PIECES))


@settings(max_examples=300, deadline=None)
@given(st.lists(EDITS, min_size=1, max_size=4))
def test_altered_text_is_read_or_refused_and_nothing_else(edits: list[tuple[int, int, str]]) -> None:
    text = TEXT
    for at, length, piece in edits:
        text = text[:at] + piece + text[at + length :]
    with contextlib.suppress(TextError):
        print_graph(parse_graph(text, *TABLES))


def test_deep_json_is_refused() -> None:
    with pytest.raises(TextError, match="nested too deeply"):
        parse_program('method forward {"in_tree": ' + "[" * 5000)


@pytest.mark.parametrize(
    ("array", "dtype", "comment"),
    [
        ([[0, 1, 0, 2], [0, 0, 0, -3]], f32, "  # density 0.375"),
        ([[-0.0, math.nan]], f32, "  # density 0.5"),
        ([[0, 0]], DType.int8, "  # density 0"),
        ([[1, 2]], f32, ""),
        ([[0] + 24 * [1]], f32, ""),  # 0.96: no zeros worth telling
        ([[0, 1]], DType.int64, ""),  # an index or a mask is no weight
        ([0, 0], f32, ""),
        ([[]], f32, ""),
    ],
)
def test_density_of_weights(array: list[float], dtype: DType, comment: str) -> None:
    weight = ConstTensor("w", np.array(array, dtype.numpy), dtype)
    b = GraphBuilder()
    b.origin = Origin("fc", "model.py:3")
    program = Program({"forward": Method(b.build([b(make("constant", tensor=weight))]))})
    text = print_program(program)
    assert text.startswith(f"const @w: {dtype}[{', '.join(map(str, weight.array.shape))}]{comment}\n\nmethod")
    again = parse_program(text, {"w": weight.array})
    assert print_program(again) == text
    assert again.methods["forward"].graph.nodes[0].origin == b.origin
