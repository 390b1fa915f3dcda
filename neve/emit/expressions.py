"""Scalar expressions as C: each subexpression once, at the outermost loop that determines it.

It is a vector of float32 or a scalar.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from neve.emit.functions import FUNCTIONS
from neve.ir.buffers import Buffer
from neve.ir.index import Atom, Data, Div, Index, Sym, Var, lane_stride, show
from neve.ir.loops import Call, Const, Expr, FromIndex, Guard, Load, Tensor
from neve.ir.types import DType, round_to
from neve.plan.stages import index_loads, loads

C_TYPES = {
    DType.float64: "double",
    DType.float32: "float",
    DType.float16: "float",
    DType.bfloat16: "float",
    DType.int64: "int64_t",
    DType.int32: "int32_t",
    DType.int16: "int16_t",
    DType.int8: "int8_t",
    DType.uint8: "uint8_t",
    DType.bool: "uint8_t",
}
"""The C type of a value; halves are computed as float."""
STORED = C_TYPES | {DType.float16: "uint16_t", DType.bfloat16: "uint16_t"}
"""The C type of an element in memory."""
HALVES = (DType.float16, DType.bfloat16)
VECTORS = {DType.float32: "", DType.float16: "_f16", DType.bfloat16: "_bf16"}
"""What the names of vec.h's and vec_half.h's loads and stores end in, for the types that vectors of float32 hold."""
UNSIGNED = {
    DType.int64: "uint64_t",
    DType.int32: "uint32_t",
    DType.int16: "uint32_t",
    DType.int8: "uint32_t",
    DType.uint8: "uint32_t",
}


class NotVector(Exception):
    """The expression has no vector form along the chosen loop; the loop is emitted over scalars instead."""


@dataclass(eq=False)
class Scope:
    """A C block: what it defines, its lines, what has been computed in it. No computation moves out of a fence."""

    parent: Scope | None = None
    vars: set[Var] = field(default_factory=set)
    lines: list[str] = field(default_factory=list)
    memo: dict[object, Value] = field(default_factory=dict)
    fence: bool = False

    def child(self, *vars: Var, fence: bool = False) -> Scope:
        return Scope(self, set(vars), fence=fence)

    def add(self, line: str) -> None:
        self.lines.append(line)

    def close(self, head: str, inner: Scope) -> None:
        """Append inner as a block after head."""
        self.lines += [f"{head} {{", *("    " + x for x in inner.lines), "}"]

    def find(self, key: object) -> Value | None:
        scope: Scope | None = self
        while scope is not None:
            if key in scope.memo:
                return scope.memo[key]
            scope = scope.parent
        return None

    def home(self, needed: frozenset[Var]) -> Scope:
        """The outermost scope, not beyond a fence, in which all needed variables are defined."""
        chain = [self]
        while not chain[-1].fence and chain[-1].parent is not None:
            chain.append(chain[-1].parent)
        for k, scope in enumerate(chain):
            if scope.vars & needed:
                return chain[k]
        return chain[-1]


@dataclass(frozen=True)
class Value:
    """C text of a computed value; kind is "v" (vector), "m" (vector mask) or "s" (scalar).

    exact is the float32 value that a value of a half type was rounded from: a store rounds it itself.
    """

    text: str
    kind: str
    dtype: DType
    exact: str | None = None


class Emitter:
    """Emits expressions of one kernel.

    vec is the loop variable that runs over lanes, partial the C count of valid lanes, if not all; pointer names a
    buffer's base pointer; special gives values that are not in memory (an accumulator, a row's scalar); inside maps
    each tensor that the kernel itself makes to a marker among the variables of the scope in which it is made: nothing
    that reads it moves out.
    """

    def __init__(
        self,
        buffers: Mapping[Tensor, Buffer],
        pointer: Callable[[Buffer], str],
        symbol: Callable[[str], str],
        lanes: int,
    ) -> None:
        self.buffers, self.pointer, self.symbol, self.lanes = buffers, pointer, symbol, lanes
        self.vec: Var | None = None
        self.partial: str | None = None
        self.special: dict[Tensor, Value] = {}
        self.inside: dict[Tensor, Var] = {}
        self._count = 0

    def name(self) -> str:
        self._count += 1
        return f"x{self._count}"

    # --- indexes ------------------------------------------------------------------------------------------------------

    def index(self, i: Index, scope: Scope) -> str:
        """i in C; data-dependent parts are computed first."""

        def atom(a: Atom) -> str:
            if isinstance(a, Sym):
                return self.symbol(a.name)
            if isinstance(a, Var):
                return a.name
            if isinstance(a, Data):
                v = self.value(a.expr, scope)
                if v.kind != "s":
                    raise NotVector
                return f"(int64_t){v.text}"
            plain = a.num.nonnegative
            num, den = self.index(a.num, scope), self.index(a.den, scope)
            if isinstance(a, Div):
                return f"(({num}) / ({den}))" if plain else f"neve_floor_div({num}, {den})"
            return f"(({num}) % ({den}))" if plain else f"neve_floor_mod({num}, {den})"

        return show(i, atom)

    # --- expressions --------------------------------------------------------------------------------------------------

    def value(self, e: Expr, scope: Scope) -> Value:
        """e computed in scope or further out."""
        if isinstance(e, Const):
            return Value(literal(e.value, e.dtype), "s", e.dtype)
        if isinstance(e, Load) and e.tensor in self.special:
            return self.special[e.tensor]
        known = scope.find(e)
        if known is not None:
            return known
        home = scope.home(self._needed(e))
        v = home.memo[e] = self._compute(e, home)
        return v

    def _needed(self, e: Expr) -> frozenset[Var]:
        """The variables e depends on, and the markers of the tensors in it that the kernel itself makes."""
        return e.vars | self._markers(loads(e))

    def _markers(self, reads: Iterable[Load]) -> frozenset[Var]:
        return frozenset(self.inside[x.tensor] for x in reads if x.tensor in self.inside)

    def _compute(self, e: Expr, scope: Scope) -> Value:
        if isinstance(e, Load):
            return self._load(e, scope)
        if isinstance(e, FromIndex):
            if self.vec is not None and self.vec in e.vars:
                raise NotVector
            return self._temp(scope, f"({C_TYPES[e.dtype]})({self.index(e.index, scope)})", "s", e.dtype)
        if isinstance(e, Guard):
            return self._guard(e, scope)
        assert isinstance(e, Call)
        e = _with_number(e)
        args = [self.value(a, scope) for a in e.args]
        if e.fn == "cast":
            return self._cast(args[0], e.dtype, scope)
        if all(a.kind == "s" for a in args):
            form, types = self._scalar_form(e, args)
            return self._temp(scope, form.format(*(a.text for a in args), **types), "s", e.dtype)
        return self._vector_call(e, args, scope)

    def _temp(self, scope: Scope, text: str, kind: str, dtype: DType) -> Value:
        name = self.name()
        ctype = {"v": "vf", "m": "vi", "s": C_TYPES[dtype]}[kind]
        scope.add(f"const {ctype} {name} = {text};")
        return Value(name, kind, dtype)

    def _scalar_form(self, e: Call, args: list[Value]) -> tuple[str, dict[str, str]]:
        operand = args[-1].dtype if e.fn == "where" else args[0].dtype
        kind = "d" if operand is DType.float64 else "f" if operand.is_float else "b" if operand is DType.bool else "i"
        form = FUNCTIONS.get(e.fn, {}).get(kind)
        if form is None:
            raise ValueError(f"no C form of {e.fn} for {operand}")
        return form, {"T": C_TYPES[operand], "U": UNSIGNED.get(operand, "uint8_t"), "B": str(8 * operand.size)}

    def _vector_call(self, e: Call, args: list[Value], scope: Scope) -> Value:
        condition = e.fn == "where"
        data = args[1:] if condition else args
        masks = data[0].dtype is DType.bool
        if any(a.dtype is not DType.bool if masks else a.dtype not in VECTORS for a in data):
            raise NotVector
        form = FUNCTIONS.get(e.fn, {}).get("m" if masks else "v")
        if form is None or not (e.dtype in VECTORS or e.dtype is DType.bool):
            raise NotVector
        texts = [self._mask(a) for a in args[:1]] if condition else []
        texts += [self._mask(a) if masks else self._vector(a) for a in data]
        return self._temp(scope, form.format(*texts), "m" if e.dtype is DType.bool else "v", e.dtype)

    def _vector(self, a: Value) -> str:
        return a.text if a.kind == "v" else f"vset({a.text})"

    def _mask(self, a: Value) -> str:
        return a.text if a.kind == "m" else f"vmask_set({a.text})"

    def as_vector(self, v: Value) -> str:
        """v as a vector of float32 in C."""
        if v.dtype not in VECTORS:
            raise NotVector
        return self._vector(v)

    def _cast(self, a: Value, dtype: DType, scope: Scope) -> Value:
        if a.kind == "m" and dtype in VECTORS:
            return self._temp(scope, f"vselect({a.text}, vset(1.0f), vset(0.0f))", "v", dtype)
        if a.kind != "s":
            if dtype is DType.bool and a.kind == "v":
                return self._temp(scope, f"({a.text} != vset(0.0f))", "m", dtype)
            if a.kind == "m" or dtype not in VECTORS:
                raise NotVector
            if dtype is DType.float32 or dtype is a.dtype:
                return replace(a, dtype=dtype, exact=None)
            value = self._temp(scope, f"vround{VECTORS[dtype]}({a.text})", "v", dtype)
            return replace(value, exact=a.text) if a.dtype is DType.float32 else value
        value = self._temp(scope, cast_text(a.text, a.dtype, dtype), "s", dtype)
        return replace(value, exact=a.text) if dtype in HALVES and a.dtype is DType.float32 else value

    def _guard(self, e: Guard, scope: Scope) -> Value:
        if self.vec is not None and any(self.vec in i.vars or self.vec in n.vars for i, n in e.conditions):
            raise NotVector
        tests = []
        for i, n in e.conditions:
            low, high = not i.nonnegative, not (n - 1 - i.bound(upper=True)).nonnegative
            text = self.index(i, scope)
            if low and high:
                tests.append(f"(uint64_t)({text}) < (uint64_t)({self.index(n, scope)})")
            elif low:
                tests.append(f"({text}) >= 0")
            else:
                tests.append(f"({text}) < ({self.index(n, scope)})")
        then, other = scope.child(fence=True), scope.child(fence=True)
        a, b = self.value(e.then, then), self.value(e.other, other)
        kind = "v" if "v" in (a.kind, b.kind) else "m" if "m" in (a.kind, b.kind) else "s"
        name = self.name()
        wraps: dict[str, Callable[[Value], str]] = {"v": self.as_vector, "m": self._mask, "s": lambda v: v.text}
        wrap = wraps[kind]
        then.add(f"{name} = {wrap(a)};")
        other.add(f"{name} = {wrap(b)};")
        ctype = {"v": "vf", "m": "vi", "s": C_TYPES[e.dtype]}[kind]
        scope.add(f"{ctype} {name};")
        scope.close(f"if ({' && '.join(tests)})", then)
        scope.close("else", other)
        return Value(name, kind, e.dtype)

    # --- memory -------------------------------------------------------------------------------------------------------

    def address(self, buffer: Buffer, address: Index, scope: Scope, const: bool = True) -> tuple[str, Index | None]:
        """(C pointer to the element, lane stride or None if the address does not depend on the lane)."""
        base = self.pointer(buffer)
        if self.vec is None or self.vec not in address.vars:
            return f"{base} + {self.index(address, scope)}" if address.terms else base, None
        stride = lane_stride(address, self.vec, self.lanes)
        if stride is None or stride.vars:
            raise NotVector
        form = address.affine(self.vec)
        if form is None:
            return f"{base} + {self.index(address, scope)}", stride
        home = scope.home(form[1].vars | self._markers(index_loads(form[1])))
        key = (buffer, form[1], const)
        start = scope.find(key)
        if start is None:
            name = self.name()
            rest = self.index(form[1], home)
            ctype = f"{'const ' if const else ''}{STORED[buffer.dtype]}"
            home.add(f"{ctype} *const {name} = {base}{f' + {rest}' if form[1].terms else ''};")
            start = home.memo[key] = Value(name, "s", buffer.dtype)
        step = self.vec.name if stride == Index.of(1) else f"({self.index(stride, scope)}) * {self.vec.name}"
        return f"{start.text} + {step}", stride

    def _load(self, e: Load, scope: Scope) -> Value:
        buffer = self.buffers[e.tensor]
        at, stride = self.address(buffer, buffer.address(e.index), scope)
        if stride is None or not stride.terms:
            return self._temp(scope, load_text(at, e.dtype), "s", e.dtype)
        tail = f", {self.partial}" if self.partial else ""
        n = "_n" if self.partial else ""
        if e.dtype is DType.bool:
            return self._temp(scope, f"vmask_load{n}({at}, {self.index(stride, scope)}{tail})", "m", e.dtype)
        if e.dtype not in VECTORS:
            raise NotVector
        n = VECTORS[e.dtype] + n
        if stride.const == 1:
            return self._temp(scope, f"vload{n}({at}{tail})", "v", e.dtype)
        return self._temp(scope, f"vload_strided{n}({at}, {self.index(stride, scope)}{tail})", "v", e.dtype)

    def store(self, buffer: Buffer, address: Index, v: Value, scope: Scope) -> None:
        """Write v to buffer at address, as many lanes as it has."""
        if self.vec is None or self.vec not in address.vars:
            if v.kind != "s":
                raise NotVector
            at, _ = self.address(buffer, address, scope, const=False)
            scope.add(store_text(at, v, buffer.dtype))
            return
        if buffer.dtype not in VECTORS:
            raise NotVector
        at, stride = self.address(buffer, address, scope, const=False)
        assert stride is not None
        if not stride.terms:
            raise NotVector
        n, tail = ("_n", f", {self.partial}") if self.partial else ("", "")
        n, text = VECTORS[buffer.dtype] + n, v.exact if v.exact and v.kind == "v" else self.as_vector(v)
        if stride.const == 1:
            scope.add(f"vstore{n}({at}, {text}{tail});")
        else:
            scope.add(f"vstore_strided{n}({at}, {self.index(stride, scope)}, {text}{tail});")


def _with_number(e: Call) -> Call:
    """maximum and minimum with a constant that is a number in the form that is made for it."""
    if e.fn not in ("maximum", "minimum") or not e.dtype.is_float:
        return e
    args = sorted(e.args, key=lambda a: isinstance(a, Const))
    last = args[-1]
    number = isinstance(last, Const) and last.value == last.value
    return Call(f"{e.fn}_number", tuple(args), e.dtype) if number else e


def literal(value: float | bool, dtype: DType) -> str:
    """A C literal of dtype's value type."""
    if dtype.is_float:
        double = dtype is DType.float64
        x = float(round_to(np.asarray(value, np.float64), dtype)) if dtype in HALVES else float(value)
        if x != x:
            return '__builtin_nan("")' if double else '__builtin_nanf("")'
        if x in (float("inf"), float("-inf")):
            return ("-" if x < 0 else "") + ("__builtin_inf()" if double else "__builtin_inff()")
        if double:
            return f"({x!r})" if x < 0 or str(x)[0] == "-" else repr(x)
        text = repr(float(np.float32(x)))
        return (
            literal(float(np.float32(x)), DType.float32)
            if text in ("inf", "-inf")
            else f"({text}f)"
            if text[0] == "-"
            else f"{text}f"
        )
    if dtype is DType.bool:
        return str(int(bool(value)))
    if dtype is DType.int64:
        return (
            "INT64_MIN"
            if value == -(2**63)
            else f"INT64_C({int(value)})"
            if value >= 0
            else f"(-INT64_C({-int(value)}))"
        )
    if dtype is DType.int32 and value == -(2**31):
        return "INT32_MIN"
    return str(int(value)) if value >= 0 else f"({int(value)})"


def cast_text(text: str, source: DType, to: DType) -> str:
    """C that converts as torch's `to` does on x86.

    Out-of-range floats give the integer type's minimum, wrapped to narrow types.
    """
    if source is to:
        return text
    if to is DType.bool:
        return f"({text} != 0)"
    if to.is_float:
        value = f"({C_TYPES[to]}){text}"
        if to is DType.float16:
            return f"sh_to_f(sf_to_h({value}))"
        return f"sb_to_f(sf_to_b({value}))" if to is DType.bfloat16 else value
    if source.is_float:
        wide = "int64" if to in (DType.int64, DType.uint8) else "int32"
        return f"({C_TYPES[to]})neve_to_{wide}({text})"
    return f"({C_TYPES[to]}){text}"


def load_text(at: str, dtype: DType) -> str:
    """C that reads one element as a value."""
    if dtype is DType.float16:
        return f"sh_to_f(*({at}))"
    return f"sb_to_f(*({at}))" if dtype is DType.bfloat16 else f"*({at})"


def store_text(at: str, v: Value, dtype: DType) -> str:
    """C that writes one value as an element."""
    text = v.exact or v.text
    if dtype is DType.float16:
        text = f"sf_to_h({text})"
    elif dtype is DType.bfloat16:
        text = f"sf_to_b({text})"
    return f"*({at}) = {text};"
