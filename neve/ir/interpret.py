"""The reference interpreter: node by node through `Op.eval`, in numpy. What it gives is what a graph means."""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from neve.errors import raised
from neve.ir.graph import Graph, Node, StateVar, Value
from neve.ir.index import Index
from neve.ir.types import Dim, DType, round_to, size_at
from neve.ir.walk import map_attributes

if TYPE_CHECKING:
    from neve.ops.base import Op

Sizes = Mapping[Index, int]
Watch = Callable[[Node, Sequence[np.ndarray], Sequence[np.ndarray]], Sequence[np.ndarray] | None]
"""Called with a node, the values that it got and those that it gave; what it returns, if any, takes their place."""


def interpret(
    graph: Graph,
    inputs: Sequence[Any],
    state: MutableMapping[StateVar, np.ndarray] | None = None,
    sizes: Sizes | None = None,
    watch: Watch | None = None,
) -> tuple[np.ndarray, ...]:
    """The outputs for inputs (anything np.asarray takes, of the input's dtype; a bfloat16 one as float32).

    state holds the current content of state variables and is updated; one that is missing starts from its initial
    content. sizes gives values of symbols that no input's shape determines. watch is called after each node of the
    graph itself, not of graphs inside it.
    Raises ValueError if the inputs do not fit the graph's, TypeError on a wrong dtype, AssertionError if an op's
    result is not of the type that it inferred, ModelError where the graph raises.
    """
    arrays = [np.asarray(a) for a in inputs]
    bound = bind_sizes(graph.inputs, [a.shape for a in arrays], sizes)
    for v, a in zip(graph.inputs, arrays, strict=True):
        if a.dtype != v.dtype.numpy:
            raise TypeError(f"input %{v.name} is {v.dtype}, got an array of {a.dtype}")
    return _run(
        graph,
        [round_to(a, v.dtype) for v, a in zip(graph.inputs, arrays, strict=True)],
        {} if state is None else state,
        bound,
        watch,
    )


def bind_sizes(
    values: Sequence[Value], shapes: Sequence[tuple[int, ...]], sizes: Sizes | None = None
) -> dict[Index, int]:
    """The symbols' values that make the types of values fit shapes, beginning with sizes.

    Plain symbols are taken first; then dims that grow with one unknown symbol are solved.
    Raises ValueError saying which value does not fit.
    """
    bound: dict[Index, int] = dict(sizes or {})
    if len(values) != len(shapes):
        raise ValueError(f"expected {len(values)} inputs, got {len(shapes)}")
    todo: list[tuple[Index, int]] = []
    for v, shape in zip(values, shapes, strict=True):
        if len(shape) != len(v.shape):
            raise ValueError(f"input %{v.name} is {v.type}, got an array of shape {tuple(shape)}")
        for d, n in zip(v.shape, shape, strict=True):
            if isinstance(d, Index) and d.is_symbol:
                bound.setdefault(d, n)
            elif isinstance(d, Index):
                todo.append((d, n))
    for d, n in todo:
        unknown = d.symbols - bound.keys()
        if len(unknown) == 1:
            (s,) = unknown
            root = _root(d, n, s, bound)
            if root is not None:
                bound[s] = root
    for v, shape in zip(values, shapes, strict=True):
        if not all(_is(d, n, bound) for d, n in zip(v.shape, shape, strict=True)):
            raise ValueError(f"input %{v.name} is {v.type}, got an array of shape {tuple(shape)}" + _where(bound))
    return bound


def bind(op: Op, sizes: Sizes) -> Op:
    """op with every symbolic attribute (also within tuples) replaced by its int; op itself if it has none."""
    return map_attributes(op, lambda value: _size(value, sizes) if isinstance(value, Index) else value)


def learn(node: Node, ins: Sequence[np.ndarray], sizes: dict[Index, int]) -> None:
    """For a `Watch` that binds ops: sizes with the one that the node gives its value, if it does."""
    if node.op.name == "measure":
        sizes[node.op.size] = int(ins[0])  # type: ignore[attr-defined]


def _size(d: Dim, sizes: Sizes) -> int:
    try:
        return size_at(d, sizes)
    except (KeyError, ZeroDivisionError) as error:
        raise ValueError(f"the size {d} has no value" + _where(sizes)) from error


def _is(d: Dim, n: int, sizes: Sizes) -> bool:
    try:
        return size_at(d, sizes) == n
    except (KeyError, ZeroDivisionError):
        return False


def _root(d: Index, n: int, s: Index, known: Sizes) -> int | None:
    """The s for which d is n, where d grows or shrinks with s: a polynomial in it with coefficients of one sign."""
    e = d.subs({a: known[Index.of(a)] for a in d.inside if Index.of(a) in known}) - n
    coefficients = [c for k, c in e.terms.items() if k]
    if not all(Index.of(a) == s for a in e.atoms()) or not coefficients or min(coefficients) < 0 < max(coefficients):
        return None
    e = e if coefficients[0] > 0 else -e
    low, high = 0, 1
    while e.at({s: high}) < 0:
        low, high = high, 2 * high
    while low < high:
        middle = (low + high) // 2
        low, high = (middle + 1, high) if e.at({s: middle}) < 0 else (low, middle)
    return low if e.at({s: low}) == 0 else None


def _where(sizes: Sizes) -> str:
    return f" (where {', '.join(f'{s}={n}' for s, n in sizes.items())})" if sizes else ""


def evaluate(op: Op, inputs: Sequence[np.ndarray], dtypes: Sequence[DType]) -> tuple[np.ndarray, ...]:
    """op.eval on arrays, rounded to the output dtypes; half types are computed in float32. op has no symbolic
    attributes.
    """
    outs = op.eval(*(a.astype(np.float32) if a.dtype == np.float16 else a for a in inputs))
    return tuple(round_to(np.asarray(o), d) for o, d in zip(outs, dtypes, strict=True))


def _run(
    graph: Graph,
    inputs: Sequence[np.ndarray],
    state: MutableMapping[StateVar, np.ndarray],
    given: Sizes,
    watch: Watch | None = None,
) -> tuple[np.ndarray, ...]:
    sizes = dict(given)
    env: dict[Value, np.ndarray] = dict(zip(graph.inputs, inputs, strict=True))
    last = {v: n for n in graph.nodes for v in n.inputs}
    keep = set(graph.outputs)
    for node in graph.nodes:
        ins = [env[v] for v in node.inputs]
        outs: Sequence[np.ndarray] = _step(node, ins, state, sizes)
        if watch is not None:
            outs = watch(node, ins, outs) or outs
        for v, a in zip(node.outputs, outs, strict=True):
            assert a.shape == tuple(_size(d, sizes) for d in v.shape), (
                f"%{v.name}: {v.type} = {node.op.name}: eval gave shape {a.shape}"
            )
            env[v] = a
        for v in set(node.inputs):
            if last[v] is node and v not in keep:
                del env[v]
    return tuple(env[v] for v in graph.outputs)


def _step(
    node: Node, inputs: list[np.ndarray], state: MutableMapping[StateVar, np.ndarray], sizes: dict[Index, int]
) -> tuple[np.ndarray, ...]:
    op: Any = node.op
    dtypes = [v.dtype for v in node.outputs]
    if op.name == "if":
        return _run(op.then if inputs[0].item() else op.orelse, inputs[1:], state, sizes)
    if op.name == "while":
        carried = tuple(inputs)
        while _run(op.cond, carried, state, sizes)[0].item():
            carried = _run(op.body, carried, state, sizes)
        return carried
    if op.name == "read_state":
        return (np.array(state.get(op.var, op.var.init)),)
    if op.name == "write_state":
        state[op.var] = round_to(inputs[0], op.var.dtype)
        return tuple(state[op.var] for _ in node.outputs)
    if op.name == "measure":
        sizes[op.size] = int(inputs[0])
        most = sizes[op.size] if op.most is None else _size(op.most, sizes)
        assert 0 <= sizes[op.size] <= most, f"the size {op.size} is {sizes[op.size]} of {most}"
        return ()
    if op.name == "raise":
        if not inputs or inputs[0].item():
            raise raised(op.message)
        return ()
    return evaluate(bind(op, sizes), inputs, dtypes)
