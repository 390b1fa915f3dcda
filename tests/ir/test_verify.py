"""verify finds each kind of malformed graph and shows where."""

from __future__ import annotations

import pytest

from neve.ir.graph import Graph, GraphBuilder, Method, Node, Origin, Program, Value
from neve.ir.parse import op_classes
from neve.ir.types import DType, TensorType, symbol
from neve.ir.verify import VerifyError, verify, verify_program
from neve.ops.base import Op

f32 = DType.float32
t = TensorType((2,), f32)
NEG: Op = op_classes()["neg"]()
ADD: Op = op_classes()["add"]()


def chain(length: int) -> list[Node]:
    values = [Value(f"v{i}", t) for i in range(length + 1)]
    return [Node(NEG, (values[i],), (values[i + 1],), Origin("m", f"model.py:{i}")) for i in range(length)]


def test_a_good_graph_passes_and_is_remembered() -> None:
    nodes = chain(3)
    known: set[Node] = set()
    verify(Graph(nodes[0].inputs, tuple(nodes), nodes[-1].outputs), known)
    assert known == set(nodes)


def test_the_message_shows_five_lines_either_side_and_the_origin() -> None:
    nodes = chain(20)
    nodes[10] = Node(NEG, nodes[10].inputs, (Value("v11", TensorType((3,), f32)),), nodes[10].origin)
    nodes[11] = Node(NEG, nodes[10].outputs, nodes[11].outputs)
    with pytest.raises(VerifyError) as e:
        verify(Graph(nodes[0].inputs, tuple(nodes), nodes[-1].outputs))
    lines = str(e.value).splitlines()
    assert lines[0] == "the types should be float32[2], but are float32[3]"
    assert lines[1] == "from m  model.py:10"
    assert len(lines) == 2 + 11 and lines[7] == "  → %v11: float32[3] = neg(%v10)  # m  model.py:10"


def broken_order() -> Graph:
    a, b = chain(2)
    return Graph(a.inputs, (b, a), b.outputs)


def equal_names() -> Graph:
    x = Value("x", t)
    return Graph((x,), (Node(NEG, (x,), (Value("x", t),)),), (x,))


def defined_twice() -> Graph:
    x, y = Value("x", t), Value("y", t)
    return Graph((x,), (Node(NEG, (x,), (y,)), Node(NEG, (x,), (y,))), (y,))


def lost_output() -> Graph:
    x = Value("x", t)
    return Graph((x,), (), (Value("y", t),))


def bad_inputs() -> Graph:
    x, y = Value("x", t), Value("y", TensorType((3,), f32))
    return Graph((x, y), (Node(ADD, (x, y), (Value("z", t),)),), ())


def wrong_dtype() -> Graph:
    x = Value("x", t)
    return Graph((x,), (Node(NEG, (x,), (Value("z", TensorType((2,), DType.float64)),)),), ())


def nested() -> Graph:
    x, p = Value("x", t), Value("p", TensorType((), DType.bool))
    y = Value("y", t)
    inner = Graph((y,), (Node(NEG, (x,), (Value("z", t),)),), (y,))
    return Graph((p, x), (Node(op_classes()["if"](then=inner, orelse=inner), (p, x), (Value("r", t),)),), ())


@pytest.mark.parametrize(
    ("graph", "reason"),
    [
        (broken_order, "%v1 is used before its definition"),
        (equal_names, "the name %x is not unique"),
        (defined_twice, "%y is defined twice"),
        (lost_output, "the output %y is not defined"),
        (bad_inputs, "add does not take these inputs"),
        (wrong_dtype, "the types should be float32[2]"),
        (nested, "%x is used before its definition, or has none  (in forward.%r.then)"),
    ],
)
def test_each_defect_is_found(graph: object, reason: str) -> None:
    with pytest.raises(VerifyError) as e:
        verify(graph(), where="forward")  # type: ignore[operator]
    assert reason in str(e.value) and "(in forward" in str(e.value)


def test_dims_that_are_equal_but_written_differently_pass() -> None:
    s = symbol("s0")
    b = GraphBuilder()
    x = b.input("x", TensorType((s * (s + 1),), f32))
    verify(Graph((x,), (Node(NEG, (x,), (Value("y", TensorType((s**2 + s,), f32)),)),), ()))


def test_scalars_must_match_the_inputs() -> None:
    x = Value("x", t)
    with pytest.raises(VerifyError, match="2 entries"):
        verify_program(Program({"forward": Method(Graph((x,), (), (x,)), scalars=(None, None))}))
