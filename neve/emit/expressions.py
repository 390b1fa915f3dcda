"""Scalar expressions as terms: each subexpression once, at the outermost loop that determines it.

It is a vector of float32 or of 32-bit integers, a mask, or a scalar.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from neve.emit.forms import LANES, TRUNCATED, LaneForm, LaneForms, truncated
from neve.emit.functions import FUNCTIONS
from neve.emit.statements import (
    Address,
    AllOf,
    Apply,
    Assign,
    Compare,
    Convert,
    Fetch,
    FromSize,
    Gather,
    IfThen,
    Let,
    LetPointer,
    Literal,
    Local,
    Round,
    Size,
    Spread,
    Statement,
    Steps,
    Store,
    Strided,
    Term,
    Whole,
    Within,
)
from neve.ir.buffers import Buffer
from neve.ir.index import Data, Index, Var, data_atoms, lane_stride
from neve.ir.loops import Call, Const, Expr, FromIndex, Guard, Load, Tensor
from neve.ir.types import DType
from neve.plan.fuse import hint
from neve.plan.stages import index_loads, loads

NEAR = 1 << 18
"""Elements of a tensor that is taken to stay in a core's caches while it is gathered from."""
HALVES = (DType.float16, DType.bfloat16)


@dataclass(eq=False)
class Scope:
    """A block: what it defines, its statements, what has been computed in it. No computation moves out of a fence."""

    parent: Scope | None = None
    vars: set[Var] = field(default_factory=set)
    body: list[Statement] = field(default_factory=list)
    memo: dict[object, Value] = field(default_factory=dict)
    fence: bool = False

    def child(self, *vars: Var, fence: bool = False) -> Scope:
        return Scope(self, set(vars), fence=fence)

    def add(self, *statements: Statement) -> None:
        self.body += statements

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
    """A computed value; kind is "v" (vector), "m" (vector mask), "n" (vector of integers) or "s" (scalar).

    exact is the float32 value that a value of a half type was rounded from: a store rounds it itself.
    """

    term: Term
    kind: str
    dtype: DType
    exact: Term | None = None


class Emitter:
    """Emits expressions of one kernel.

    vec is the loop variable that runs over lanes, partial the count of valid lanes, if not all; pointer names a
    buffer's base pointer; special gives values that are not in memory (an accumulator, a row's scalar); inside maps
    each tensor that the kernel itself makes to a marker among the variables of the scope in which it is made: nothing
    that reads it moves out. With a vec, only what `forms` finds a form for may be emitted.
    """

    def __init__(self, buffers: Mapping[Tensor, Buffer], pointer: Callable[[Buffer], Local], lanes: int) -> None:
        self.buffers, self.pointer, self.lanes = buffers, pointer, lanes
        self.vec: Var | None = None
        self.partial: Term | None = None
        self.special: dict[Tensor, Value] = {}
        self.inside: dict[Tensor, Var] = {}
        self._count = 0

    def name(self) -> str:
        self._count += 1
        return f"x{self._count}"

    def forms(self, vec: Var) -> LaneForms:
        """The forms that values have along a lane variable."""
        known = {t: LaneForm(v.kind, v.dtype) for t, v in self.special.items()}
        return LaneForms(self.buffers, known, self.lanes, vec)

    def size(self, i: Index, scope: Scope) -> Size:
        """i as a term; data-dependent parts are computed first."""
        return Size(i, {a: self.value(a.expr, scope).term for a in data_atoms(i)})

    # --- expressions --------------------------------------------------------------------------------------------------

    def value(self, e: Expr, scope: Scope) -> Value:
        """e computed in scope or further out."""
        if isinstance(e, Const):
            return Value(Literal(e.value, e.dtype), "s", e.dtype)
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
                return self._steps(e, scope)
            return self._new(scope, FromSize(self.size(e.index, scope), e.dtype), "s", e.dtype)
        if isinstance(e, Guard):
            return self._guard(e, scope)
        assert isinstance(e, Call)
        e = _with_number(e)
        args = [self.value(a, scope) for a in e.args]
        if e.fn == "cast":
            return self._cast(args[0], e.dtype, scope)
        term = self._scalar_call(e, args) if all(a.kind == "s" for a in args) else self._vector_call(e, args)
        kind = "s" if all(a.kind == "s" for a in args) else "m" if e.dtype is DType.bool else _lanes(e.dtype)
        return self._new(scope, term, kind, e.dtype)

    def _new(self, scope: Scope, term: Term, kind: str, dtype: DType) -> Value:
        name = self.name()
        scope.add(Let(name, kind, term, dtype))
        return Value(Local(name), kind, dtype)

    def _scalar_call(self, e: Call, args: Sequence[Value]) -> Apply:
        operand = args[-1].dtype if e.fn == "where" else args[0].dtype
        form = "d" if operand is DType.float64 else "f" if operand.is_float else "b" if operand is DType.bool else "i"
        if form not in FUNCTIONS.get(e.fn, {}):
            raise ValueError(f"no C form of {e.fn} for {operand}")
        return Apply(e.fn, form, tuple(a.term for a in args), operand)

    def _vector_call(self, e: Call, args: Sequence[Value]) -> Apply:
        condition = args[:1] if e.fn == "where" else ()
        data = args[len(condition) :]
        form = "m" if data[0].dtype is DType.bool else _lanes(data[0].dtype)
        terms = [*map(_mask, condition), *(map({"m": _mask, "n": _integers, "v": as_vector}[form], data))]
        return Apply(e.fn, form, tuple(terms), data[0].dtype)

    def _cast(self, a: Value, dtype: DType, scope: Scope) -> Value:
        if a.kind == "s":
            value = self._new(scope, Convert(a.term, a.dtype, dtype), "s", dtype)
            return replace(value, exact=a.term) if dtype in HALVES and a.dtype is DType.float32 else value
        if dtype.is_int:
            return self._new(scope, Whole(a.term, dtype), "n", dtype) if a.kind == "v" else replace(a, dtype=dtype)
        if a.kind == "m":
            one, zero = (Spread(Literal(x, DType.float32)) for x in (1.0, 0.0))
            return self._new(scope, Apply("where", "v", (a.term, one, zero), DType.float32), "v", dtype)
        if dtype is DType.bool:
            zero = Spread(Literal(0.0, DType.float32))
            return self._new(scope, Apply("ne", "v", (a.term, zero), DType.float32), "m", dtype)
        if dtype is DType.float32 or dtype is a.dtype:
            return replace(a, dtype=dtype, exact=None)
        value = self._new(scope, Round(a.term, dtype), "v", dtype)
        return replace(value, exact=a.term) if a.dtype is DType.float32 else value

    def _guard(self, e: Guard, scope: Scope) -> Value:
        tests = [self._inside(i, n, scope) for i, n in e.conditions]
        then, other = scope.child(fence=True), scope.child(fence=True)
        a, b = self.value(e.then, then), self.value(e.other, other)
        kind = "v" if "v" in (a.kind, b.kind) else "m" if "m" in (a.kind, b.kind) else "s"
        name = self.name()
        for side, v in ((then, a), (other, b)):
            side.add(Assign(name, as_vector(v) if kind == "v" else _mask(v) if kind == "m" else v.term))
        scope.add(Let(name, kind, None, e.dtype, constant=False))
        scope.add(IfThen(tests[0] if len(tests) == 1 else AllOf(tuple(tests)), then.body, other.body))
        return Value(Local(name), kind, e.dtype)

    def _inside(self, i: Index, n: Index, scope: Scope) -> Term:
        """A test of 0 <= i < n, without what always holds."""
        low, high = not i.nonnegative, not (n - 1 - i.bound(upper=True)).nonnegative
        index = self.size(i, scope)
        if low and high:
            return Within(index, self.size(n, scope))
        return Compare(">=", index, Size(Index.of(0))) if low else Compare("<", index, self.size(n, scope))

    # --- memory -------------------------------------------------------------------------------------------------------

    def place(self, buffer: Buffer, address: Index, scope: Scope, written: bool = False) -> tuple[Address, Size | None]:
        """The element, and the lane stride, None if the address does not depend on the lane."""
        base = self.pointer(buffer)
        if self.vec is None or self.vec not in address.vars:
            return Address(base, self.size(address, scope) if address.terms else None), None
        stride = lane_stride(address, self.vec, self.lanes)
        assert stride is not None, "no vector form"
        form = address.affine(self.vec)
        if form is None:
            return Address(base, self.size(address, scope)), self.size(stride, scope)
        home = scope.home(form[1].vars | self._markers(index_loads(form[1])))
        key = (buffer, form[1], written)
        start = scope.find(key)
        if start is None:
            name = self.name()
            rest = self.size(form[1], home) if form[1].terms else None
            home.add(LetPointer(name, Address(base, rest), buffer.dtype, written))
            start = home.memo[key] = Value(Local(name), "s", buffer.dtype)
        step = self.size(stride, scope)
        assert isinstance(start.term, Local)
        return Address(start.term, Strided(step, self.vec.name)), step

    def _steps(self, e: FromIndex, scope: Scope) -> Value:
        """An index along the lanes."""
        assert self.vec is not None
        form = e.index.affine(self.vec)
        assert form is not None and form[0].const is not None, "no vector form"
        first = Spread(FromSize(self.size(e.index, scope), DType.int64), "n")
        return self._new(scope, Apply("add", "n", (first, Steps(form[0].const)), e.dtype), "n", e.dtype)

    def _offsets(self, offsets: Index, scope: Scope) -> Term:
        """A sum of positions that data give each lane."""
        known = scope.find(offsets)
        if known is not None:
            return known.term
        home = scope.home(offsets.vars | self._markers(index_loads(offsets)))
        total: Term | None = None
        for (a,), c in offsets.terms.items():
            assert isinstance(a, Data)
            cast = isinstance(a.expr, Call) and a.expr.fn == "cast" and a.expr.args[0].dtype.is_float
            x = Whole(self.value(a.expr.args[0], home).term, None) if cast else self.value(a.expr, home).term
            term = x if c == 1 else Apply("mul", "n", (x, Spread(Literal(c, DType.int32), "n")), DType.int32)
            total = term if total is None else Apply("add", "n", (total, term), DType.int32)
        assert total is not None
        value = home.memo[offsets] = self._new(home, total, "n", DType.int32)
        return value.term

    def _gather(self, buffer: Buffer, base: Index, offsets: Index, scope: Scope) -> Value:
        place, stride = self.place(buffer, base, scope)
        lanes = self._offsets(offsets, scope)
        if stride is not None:
            assert stride.index.const is not None
            lanes = Apply("add", "n", (lanes, Steps(stride.index.const)), DType.int32)
        near = hint(Index.of(buffer.tensor.type.numel)) <= NEAR
        return self._new(scope, Gather(place, lanes, self.partial, near), "v", DType.float32)

    def _load(self, e: Load, scope: Scope) -> Value:
        buffer = self.buffers[e.tensor]
        address = buffer.address(e.index)
        if self.vec is not None and self.vec in address.vars:
            forms = self.forms(self.vec)
            gathered = forms.gathered(address) if forms.stride(address) is None else None
            if gathered is not None:
                return self._gather(buffer, *gathered, scope)
        place, stride = self.place(buffer, buffer.address(e.index), scope)
        if stride is None or not stride.index.terms:
            return self._new(scope, Fetch(place, e.dtype), "s", e.dtype)
        term = Fetch(place, e.dtype, stride, self.partial)
        return self._new(scope, term, "m" if e.dtype is DType.bool else _lanes(e.dtype), e.dtype)

    def stored(self, e: Expr, buffer: Buffer, scope: Scope) -> Value:
        """What is stored as e: of a vector that is cut to integers, itself."""
        whole = truncated(e) if self.vec is not None and buffer.dtype in TRUNCATED else None
        return self.value(e if whole is None else whole, scope)

    def store(self, buffer: Buffer, address: Index, v: Value, scope: Scope) -> None:
        """Store v to buffer at address, as many lanes as it has."""
        place, stride = self.place(buffer, address, scope, written=True)
        if stride is None:
            assert v.kind == "s", "no vector form"
            scope.add(Store(place, v.exact or v.term, buffer.dtype))
        else:
            value = v.exact if v.exact is not None and v.kind == "v" else as_vector(v)
            scope.add(Store(place, value, buffer.dtype, stride, self.partial))


def as_vector(v: Value) -> Term:
    """v as a vector of float32."""
    assert v.dtype in LANES, "no vector form"
    return v.term if v.kind == "v" else Spread(v.term)


def _mask(v: Value) -> Term:
    return v.term if v.kind == "m" else Spread(v.term, "m")


def _integers(v: Value) -> Term:
    return v.term if v.kind == "n" else Spread(v.term, "n")


def _lanes(dtype: DType) -> str:
    """The kind of a vector that holds numbers of a dtype."""
    return "n" if dtype.is_int else "v"


def _with_number(e: Call) -> Call:
    """maximum and minimum with a constant that is a number in the form that is made for it."""
    if e.fn not in ("maximum", "minimum") or not e.dtype.is_float:
        return e
    args = sorted(e.args, key=lambda a: isinstance(a, Const))
    last = args[-1]
    number = isinstance(last, Const) and last.value == last.value
    return Call(f"{e.fn}_number", tuple(args), e.dtype) if number else e
