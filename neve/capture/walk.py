"""The walk over an exported ATen graph: each node through its builder, its result checked against what torch says."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import sympy
import torch
from torch import fx

from neve.capture import diagnose, number_arithmetic, pairs
from neve.capture.aten import builder_of
from neve.capture.aten_windows import ByData
from neve.capture.context import Context, Number, Refusal, dtype_of
from neve.capture.symbols import MethodSymbols, UnsupportedSize
from neve.errors import CaptureError
from neve.ir.graph import Graph, GraphBuilder, Value
from neve.ir.index import Index
from neve.ir.types import TensorType, same
from neve.ops.control import If, While
from neve.ops.source import SizeOf

UNBACKED = re.compile(r"(u|zuf|zf)\d")
KINDS: dict[type, type] = {torch.SymInt: int, torch.SymFloat: float, torch.SymBool: bool}
SYMBOLIC = (torch.SymInt, torch.SymFloat, torch.SymBool)
ASSERTING = frozenset(
    {
        torch.ops.aten._assert_scalar.default,
        torch.ops.aten.sym_constrain_range.default,
        torch.ops.aten.sym_constrain_range_for_size.default,
    }
)


class Walk:
    """Builds a Graph from one fx graph. reasons collects all that cannot be captured; the walk goes on after each.

    lost: the symbols of sizes, as torch names them, that come out of what could not be captured; by_data: the reasons
    that do not hold for a capture by the model's source.
    """

    def __init__(
        self,
        gm: fx.GraphModule,
        builder: GraphBuilder,
        symbols: MethodSymbols,
        reasons: list[str],
        strip: str = "",
        lost: set[str] | None = None,
        by_data: list[str] | None = None,
    ) -> None:
        self.gm, self.b, self.symbols, self.reasons, self.strip = gm, builder, symbols, reasons, strip
        self.c = Context(builder, symbols, strip)
        self.env: dict[fx.Node, Any] = {}
        self.lost: set[str] = set() if lost is None else lost
        self.by_data: list[str] = reasons if by_data is None else by_data

    def run(self, placeholders: Mapping[str, Any]) -> list[Any]:
        """Walk all nodes, placeholders given by name; returns what the output node names (Values, dims, constants)."""
        diagnose.unsupported(self.gm.graph, builder_of, self.reasons, self.strip)
        self._note_equal()
        for node in self.gm.graph.nodes:
            if node.op == "placeholder":
                self.env[node] = placeholders[node.name]
            elif node.op == "get_attr":
                self.env[node] = self._attribute(node)
            elif node.op == "output":
                out = self.arg(node.args[0])
                return out if isinstance(out, list) else [out]
            else:
                self.env[node] = self._build(node)
        raise AssertionError("an fx graph without output")

    def _note_equal(self) -> None:
        """Which sizes that data decide the graph asserts to be equal."""
        for node in self.gm.graph.nodes:
            asserted = node.args[0] if node.target is torch.ops.aten._assert_scalar.default else None
            relation = (
                asserted.meta["val"].node.expr
                if isinstance(asserted, fx.Node) and isinstance(asserted.meta.get("val"), torch.SymBool)
                else None
            )
            if isinstance(relation, sympy.Eq) and all(a.is_Symbol and UNBACKED.match(a.name) for a in relation.args):
                left, right = relation.args
                self.symbols.equal.setdefault(left, set()).add(right)
                self.symbols.equal.setdefault(right, set()).add(left)

    def arg(self, a: Any) -> Any:
        """A node's argument: fx nodes by what they gave, containers entry by entry."""
        if isinstance(a, fx.Node):
            return self.env[a]
        if isinstance(a, (list, tuple)):
            return [self.arg(x) for x in a]
        if isinstance(a, dict):
            return {k: self.arg(v) for k, v in a.items()}
        if isinstance(a, SYMBOLIC):
            return self.symbols.dim(a)
        return a

    def _attribute(self, node: fx.Node) -> Any:
        value: Any = self.gm
        for part in str(node.target).split("."):
            value = getattr(value, part)
        return value

    def _build(self, node: fx.Node) -> Any:
        self.c.node, self.b.origin = node, diagnose.origin(node, self.strip)
        start = len(self.b.nodes)
        try:
            result = self._dispatch(node)
            self._check(node, result)
            return result
        except (Refusal, UnsupportedSize, ValueError) as e:
            follows = self.lost & _unknown(node)  # from a reason that is known
            self.lost |= _unknown(node)
            if not isinstance(e, _Known) and not follows:
                reasons = self.by_data if isinstance(e, ByData) else self.reasons
                reasons.append(f"{diagnose.op_name(node.target)}: {e}{diagnose.at(node, self.strip)}")
            del self.b.nodes[start:]
            return self._placeholder(node.meta.get("val"))
        except (TypeError, IndexError, KeyError, AttributeError, AssertionError) as e:
            where = diagnose.at(node, self.strip)
            if any(isinstance(a, Number) for a in _leaves([self.arg(a) for a in node.args])):
                what = f"{diagnose.op_name(node.target)} takes a number that is known at run time only"
                self.reasons.append(f"{what}, and has no form with a tensor in its place{where}")
            elif not self.reasons and not self.by_data:  # else it may follow from what an unsupported node stands for
                raise CaptureError(f"internal: {node.format_node()}: {type(e).__name__}: {e}{where}") from e
            del self.b.nodes[start:]
            return self._placeholder(node.meta.get("val"))

    def _dispatch(self, node: fx.Node) -> Any:
        target, val = node.target, node.meta.get("val")
        build = builder_of(target)
        if build is not None:
            args, kwargs = self.arg(list(node.args)), self.arg(node.kwargs)
            if pairs.concerns([args, kwargs], val):
                return pairs.build(self.c, target, args, kwargs)
            return build(self.c, *args, **kwargs)
        if number_arithmetic.known(target) and isinstance(val, SYMBOLIC):
            args = self.arg(list(node.args))
            if any(isinstance(a, Number) for a in args):
                return number_arithmetic.arithmetic(self.c, target, args, KINDS[type(val)])
        if isinstance(val, SYMBOLIC) or (
            isinstance(val, (int, float, bool)) and not isinstance(target, torch._ops.OpOverload)
        ):
            if isinstance(val, torch.SymInt):
                self.symbols.check(node)
            try:
                return self._size(val)
            except UnsupportedSize:  # such as a root: a number of the run
                if not (isinstance(val, torch.SymFloat) and number_arithmetic.known(target)):
                    raise
            return number_arithmetic.arithmetic(self.c, target, self.arg(list(node.args)), float)
        if getattr(target, "__name__", "") == "getitem":
            source, index = self.arg(node.args[0]), node.args[1]
            if source is None or source[index] is None:
                raise Refusal(f"result {index} of {diagnose.op_name(node.args[0].target)} is not supported")  # type: ignore[union-attr]
            return source[index]
        if isinstance(target, torch._ops.HigherOrderOperator):
            return self._higher_order(node)
        raise _Known

    def _size(self, val: Any) -> Any:
        """A Python number computed from sizes."""
        if isinstance(val, torch.SymBool):
            return val.node.expr
        if isinstance(val, torch.SymFloat):
            return self.symbols.rational(val)
        return self.symbols.dim(val) if isinstance(val, torch.SymInt) else val

    def _placeholder(self, val: Any) -> Any:
        """Stands for the result of what could not be built, so that the walk can go on."""
        if isinstance(val, (list, tuple)):
            return tuple(self._placeholder(v) for v in val)
        try:
            if not isinstance(val, torch.Tensor):
                return 1
            value = Value(self.b.fresh("unsupported"), self.c.type_of(val))
            return pairs.Pair(value, value) if val.is_complex() else value
        except (Refusal, UnsupportedSize):
            shape = tuple(d if isinstance(d, int) else 1 for d in val.shape)
            return Value(self.b.fresh("unsupported"), TensorType(shape, dtype_of(torch.float32)))

    # Control flow.

    def _higher_order(self, node: fx.Node) -> Any:
        name = node.target.name() if callable(getattr(node.target, "name", None)) else str(node.target)  # type: ignore[union-attr]
        args = self.arg(list(node.args))
        if name == "cond":
            pred, then, orelse, operands = args
            values = [self._whole(x) for x in operands]
            apart = [isinstance(x, pairs.Pair) for x in operands]
            then, orelse = (self._branch(g, values, apart) for g in (then, orelse))
            made = self.c.emit(If(then, orelse), self._predicate(pred), *values)
            for v, val in zip(made, node.meta["val"], strict=True):
                for d, n in zip(v.shape, getattr(val, "shape", ()), strict=False):
                    self.symbols.identify(n, d)
            return self._parted(made, node)
        if name == "while_loop":
            cond, body, carried, extra = args
            values = [self._whole(x) for x in (*carried, *extra)]
            apart = [isinstance(x, pairs.Pair) for x in (*carried, *extra)]
            graphs = self._branch(cond, values, apart), self._branch(body, values, apart, keep=len(carried))
            return self._parted(self.c.emit(While(*graphs), *values)[: len(carried)], node)
        if name in ("wrap_with_set_grad_enabled", "wrap_with_autocast", "hints_wrapper"):
            return self._inline(node, args)
        if name == "with_effects":
            raise Refusal(f"{diagnose.op_name(args[1])} is not supported")
        if name.startswith("auto_functionalized"):
            raise Refusal(
                f"the custom op {diagnose.op_name(node.args[0])} writes its arguments: give the model an op that "
                "returns new tensors, and neve.register_op what it computes"
            )
        raise Refusal("this higher-order operator is not supported")

    def _whole(self, x: Any) -> Value:
        """An operand or result of a subgraph as one tensor."""
        return pairs.in_one(self.c, x) if isinstance(x, pairs.Pair) else self.c.tensor(x, _dtype(x))

    def _parted(self, made: Sequence[Value], node: fx.Node) -> list[Value | pairs.Pair]:
        """Results of a subgraph, those that torch has as complex numbers as pairs."""
        vals = node.meta["val"]
        return [pairs.taken_apart(self.c, v) if x.is_complex() else v for v, x in zip(made, vals, strict=True)]

    def _predicate(self, pred: Any) -> Value:
        v = self.c.tensor(pred, dtype_of(torch.bool))
        return self.c.reshape(v, ())

    def _branch(
        self, gm: fx.GraphModule, operands: Sequence[Value], apart: Sequence[bool], keep: int | None = None
    ) -> Graph:
        """A subgraph on inputs of the operands' types, of which apart says which are complex; with keep, inputs from
        there on are appended to its outputs.
        """
        b = GraphBuilder()
        walk = Walk(gm, b, self.symbols, self.reasons, self.strip, self.lost, self.by_data)
        names = [n.name for n in gm.graph.nodes if n.op == "placeholder"]
        inputs = [b.input(name, v.type) for name, v in zip(names, operands, strict=True)]
        sizes = {n.name: self.symbols.dim(n.meta["val"]) for n in gm.graph.nodes if _is_given_size(n)}
        given = [pairs.taken_apart(walk.c, v) if a else v for v, a in zip(inputs, apart, strict=True)]
        with self.symbols.branch():
            outputs = [walk._whole(o) for o in walk.run(dict(zip(names, given, strict=True)) | sizes)]
        return b.build([*outputs, *(inputs[keep:] if keep is not None else ())])

    def _inline(self, node: fx.Node, args: list[Any]) -> Any:
        """A wrapper around a subgraph that changes nothing without gradients."""
        at = next(i for i, a in enumerate(args) if isinstance(a, fx.GraphModule))
        if "autocast" in str(node.target) and args[2] is not False and any(args[:at]) and args[2]:
            raise Refusal("autocast inside the model is not supported: cast the model itself")
        gm, operands = args[at], args[at + 1 :]
        walk = Walk(gm, self.b, self.symbols, self.reasons, self.strip, self.lost, self.by_data)
        names = [n.name for n in gm.graph.nodes if n.op == "placeholder"]
        return tuple(walk.run(dict(zip(names, operands, strict=True))))

    # What torch says.

    def _check(self, node: fx.Node, result: Any) -> None:
        """Raise CaptureError unless the values have torch's types: a mistake in the table must not pass."""
        val = node.meta.get("val")
        got = result if isinstance(result, (tuple, list)) else (result,)
        wanted = val if isinstance(val, (tuple, list)) else (val,)
        for g, w in zip(got, wanted, strict=False):
            known = isinstance(g, (Value, pairs.Pair)) and isinstance(w, torch.Tensor)
            if known and isinstance(g, pairs.Pair) != w.is_complex():
                raise CaptureError(f"internal: {node.format_node()} is built with other parts than torch's result")
            g = g.real if isinstance(g, pairs.Pair) else g
            if isinstance(g, Value) and isinstance(w, torch.Tensor):
                t = self.c.type_of(w)
                if g.type != t and not self.agree(g.type, t):
                    if self.reasons or self.by_data:
                        raise _Known  # it may follow from what an unsupported node stands for
                    if self.agree(g.type, t, self.symbols.of_two_or_more()):
                        raise Refusal(
                            f"it is {g.type}, which torch takes for {t}, and that holds for sizes of 2 or more alone: "
                            "declare a range without 0 and 1 (torch.export.Dim with min=2)"
                        )
                    raise CaptureError(
                        f"internal: {node.format_node()} is built as {g.type}, torch says {t}"
                        f"{diagnose.at(node, self.strip)}"
                    )

    def agree(self, a: TensorType, b: TensorType, symbols: MethodSymbols | None = None) -> bool:
        """Whether two types are one for all sizes, as far as trying some of them tells."""
        if a.dtype is not b.dtype or a.rank != b.rank:
            return False
        for x, y in zip(a.shape, b.shape, strict=True):
            if not same(x, y):
                e = Index.of(x) - y
                if not e.symbols or any(_value(e, at) for at in (symbols or self.symbols).points(e.symbols)):
                    return False
        return True


def _value(e: Index, at: Mapping[Index, int]) -> int:
    """0 where e has no value."""
    try:
        return e.at(at)
    except ZeroDivisionError:
        return 0


def _unknown(node: fx.Node) -> set[str]:
    """The names of the sizes that depend on values of tensors in a node's arguments and results."""
    values = [n.meta.get("val") for n in (node, *node.all_input_nodes)]
    sizes = [d for v in _leaves(values) for d in (v.shape if isinstance(v, torch.Tensor) else (v,))]
    symbols = [s for d in sizes if isinstance(d, SYMBOLIC) for s in d.node.expr.free_symbols]
    return {s.name for s in symbols if UNBACKED.match(s.name)}


def _leaves(value: Any) -> list[Any]:
    return [x for v in value for x in _leaves(v)] if isinstance(value, (list, tuple)) else [value]


class _Known(Refusal):
    """The node's op is in the list of unsupported ones already."""


def _is_given_size(node: fx.Node) -> bool:
    return node.op == "placeholder" and isinstance(node.meta.get("val"), (int, torch.SymInt))


def _dtype(x: Any) -> Any:
    if isinstance(x, Value):
        return x.dtype
    if isinstance(x, Number):
        return dtype_of({int: torch.int64, float: torch.float64, bool: torch.bool}[x.kind])
    return dtype_of(torch.bool if isinstance(x, bool) else torch.float64 if isinstance(x, float) else torch.int64)


def size_value(c: Context, size: Any) -> Value:
    """A size as a tensor, for a graph output."""
    return c(SizeOf(size))
