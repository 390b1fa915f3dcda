"""Statements as C. Nothing is decided here: each statement and each term has one text."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from neve.emit.functions import FUNCTIONS
from neve.emit.statements import (
    Accumulate,
    AcrossLanes,
    Address,
    AllOf,
    Apply,
    Assign,
    Bounded,
    Compare,
    Convert,
    Divides,
    Fetch,
    FirstLanes,
    Fitting,
    Fma,
    For,
    FromSize,
    Gather,
    IfThen,
    Ignore,
    KeepBest,
    Lane,
    Lanes,
    Least,
    Let,
    LetOperand,
    LetPointer,
    LetScratch,
    Literal,
    Local,
    LoopWhile,
    Minus,
    Prefetch,
    Round,
    RowLoop,
    Scoped,
    Share,
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
from neve.ir.index import Atom, Data, Div, Index, Sym, Var, show
from neve.ir.types import DType, round_to

VALUES = {
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
STORED = VALUES | {DType.float16: "uint16_t", DType.bfloat16: "uint16_t"}
"""The C type of an element in memory."""
UNSIGNED = {
    DType.int64: "uint64_t",
    DType.int32: "uint32_t",
    DType.int16: "uint32_t",
    DType.int8: "uint32_t",
    DType.uint8: "uint32_t",
}
POINTERS, SIZES = "void *const *p", "const int64_t *s"
KINDS = {"v": "vf", "m": "vi", "n": "vi", "i": "int64_t"}
SPREAD = {"v": "vset", "m": "vmask_set", "n": "vints_set"}
WHOLE = {None: "vcvt_i", DType.int64: "vints_as_int64", DType.int32: "vints_as_int32"}
HALVES = {DType.float16: "_f16", DType.bfloat16: "_bf16"}
"""What the names of vec_half.h's functions end in."""
SCALARS = {DType.float16: "h", DType.bfloat16: "b"}
"""sf_to_h, sb_to_f …: scalar conversions."""


def c_index(i: Index, symbol: Callable[[str], str], data: Callable[[Data], str] | None = None) -> str:
    """An Index: variables by their names, symbol and data give the C of a size and of what is read from data."""

    def atom(a: Atom) -> str:
        if isinstance(a, Sym):
            return symbol(a.name)
        if isinstance(a, Var):
            return a.name
        if isinstance(a, Data):
            assert data is not None, f"a size that depends on data: {i}"
            return data(a)
        num, den = show(a.num, atom), show(a.den, atom)
        if a.num.nonnegative:
            return f"(({num}) {'/' if isinstance(a, Div) else '%'} ({den}))"
        return f"neve_floor_{'div' if isinstance(a, Div) else 'mod'}({num}, {den})"

    return show(i, atom)


class C:
    """The printer; symbol gives the C of a size symbol."""

    def __init__(self, symbol: Callable[[str], str]) -> None:
        self.symbol = symbol

    def lines(self, statements: Iterable[Statement]) -> list[str]:
        return [line for s in statements for line in self._statement(s)]

    def kernel(self, body: Iterable[Statement]) -> str:
        """A kernel function, @ for its name."""
        return self._function("NEVE_KERNEL void @", {"p": POINTERS, "s": SIZES, "th": "neve_thread *th"}, body)

    def store(self, name: str, dtype: DType, coords: Sequence[str], body: Iterable[Statement]) -> str:
        """What a kernel's header calls with a vector v of results of dtype ("store"), cnt elements of it
        ("store_n"), or before these ("fetch"): @_ and that for a name, inlined.
        """
        v = "vd v" if dtype is DType.float64 else "vf v"
        given = {"store": {"v": v}, "store_n": {"v": v, "cnt": "int64_t cnt"}, "fetch": {}}[name]
        parameters = {"p": POINTERS, "s": SIZES, **given, **{c: f"int64_t {c}" for c in coords}}
        return self._function(f"NEVE_INLINE void @_{name}", parameters, body)

    def _function(self, head: str, parameters: Mapping[str, str], body: Iterable[Statement]) -> str:
        unused = " ".join(f"(void){p};" for p in parameters)
        lines = ("    " + x for x in (unused, *self.lines(body)))
        return "\n".join([f"{head}({', '.join(parameters.values())})", "{", *lines, "}"])

    def _block(self, head: str, body: Sequence[Statement]) -> list[str]:
        return [f"{head} {{", *("    " + x for x in self.lines(body)), "}"]

    def _statement(self, s: Statement) -> list[str]:
        match s:
            case Scoped(body):
                return self._block("", body)
            case IfThen(test, then, other):
                return [
                    *self._block(f"if ({self.term(test)})", then),
                    *(self._block("else", other) if other else ()),
                ]
            case LoopWhile(test, body):
                return self._block(f"while ({self.term(test)})", body)
            case For():
                return self._block(self._for(s), s.body)
            case RowLoop():
                return self._rows(s)
        return [self._line(s)]

    def _for(self, s: For) -> str:
        begin = f"int64_t {s.var} = {self.term(s.begin)}" if s.begin is not None else ""
        if s.step == 1:
            return f"for ({begin}; {s.var} < {self.term(s.end)}; {s.var}++)"
        test = f"{s.var} + {s.step} <= " if s.whole else f"{s.var} < "
        return f"for ({begin}; {test}{self.term(s.end)}; {s.var} += {s.step})"

    def _rows(self, s: RowLoop) -> list[str]:
        head, rest = [], "row"
        for k in reversed(range(len(s.names))):
            if k == 0:
                head.append(f"    const int64_t {s.names[k]} = {rest};")
            else:
                size = self.term(s.extents[k])
                head.append(f"    const int64_t {s.names[k]} = {rest} % ({size});")
                rest = f"{rest} / ({size})"
        body = self._block("for (int64_t row = share.begin; row < share.end; row++)", s.body)
        return [body[0], *(head or ["    (void)row;"]), *body[1:]]

    def _line(self, s: Statement) -> str:
        match s:
            case Let(name, kind, value, dtype, constant):
                text = f" = {self.term(value)}" if value is not None else ""
                return f"{'const ' if constant else ''}{KINDS.get(kind) or VALUES[dtype]} {name}{text};"
            case LetPointer(name, place, dtype, written):
                return f"{'' if written else 'const '}{STORED[dtype]} *const {name} = {self.term(place)};"
            case LetOperand(name, position, dtype, written):
                return f"{'' if written else 'const '}{STORED[dtype]} *const {name} = p[{position}];"
            case LetScratch(name, offset, dtype):
                return f"{STORED[dtype]} *const {name} = (void *)(th->scratch + {offset});"
            case Assign(name, value):
                return f"{name} = {self.term(value)};"
            case Accumulate(kind, total, value, dtype):
                return _accumulate(kind, dtype, total, self.term(value))
            case KeepBest():
                return self._keep_best(s)
            case Store():
                return self._write(s)
            case Prefetch(place, written):
                return f"vprefetch{'_write' if written else ''}({self.term(place)});"
            case Share(rows):
                return f"const neve_range share = neve_share({self.term(rows)}, th);"
            case Ignore(name):
                return f"(void){name};"
        raise TypeError(s)

    def _write(self, s: Store) -> str:
        at, value = self.term(s.place), self.term(s.value)
        if s.stride is None:
            half = SCALARS.get(s.dtype)
            return f"*({at}) = {f'sf_to_{half}({value})' if half else value};"
        name, tail = _lanes("vstore", s.stride, s.count, s.dtype), self._count(s.count)
        if s.dtype.is_int:
            name = f"vstore_as_{s.dtype.value}{'_n' if tail else ''}"
        stride = "" if s.stride.index.const == 1 else f", {self.term(s.stride)}"
        return f"{name}({at}{stride}, {value}{tail});"

    def _count(self, count: Term | None) -> str:
        return f", {self.term(count)}" if count is not None else ""

    def _keep_best(self, s: KeepBest) -> str:
        x, here, best, at = self.term(s.value), self.term(s.here), s.best, s.at
        better = f"{x} {'>' if s.kind == 'argmax' else '<'} {best}"
        if s.dtype.is_float:
            better = f"{better} || ({x} != {x} && {best} == {best})"
        return f"if ({at} < 0 || {better} || ({x} == {best} && {here} < {at})) {{ {best} = {x}; {at} = {here}; }}"

    # --- terms --------------------------------------------------------------------------------------------------------

    def term(self, t: Term) -> str:
        match t:
            case Local(name):
                return name
            case Literal(value, dtype):
                return literal(value, dtype)
            case Size(index, data):
                return c_index(index, self.symbol, lambda a: f"(int64_t){self.term(data[a])}")
            case Apply():
                return self._apply(t)
            case Address(base, offset):
                return f"{base.name} + {self.term(offset)}" if offset is not None else base.name
            case Strided(stride, var):
                return var if stride.index.const == 1 else f"({self.term(stride)}) * {var}"
            case Fetch():
                return self._read(t)
            case Convert(value, source, dtype):
                return convert(self.term(value), source, dtype)
            case FromSize(value, dtype):
                return f"({VALUES[dtype]})({self.term(value)})"
        return self._vector(t)

    def _vector(self, t: Term) -> str:
        match t:
            case Round(value, dtype):
                return f"vround{HALVES[dtype]}({self.term(value)})"
            case Spread(value, kind):
                return f"{SPREAD[kind]}({self.term(value)})"
            case Steps(stride):
                return f"(viota() * {stride})" if stride != 1 else "viota()"
            case Whole(value, dtype):
                return f"{WHOLE[dtype]}({self.term(value)})"
            case Gather(place, offsets, count, near):
                name = f"{'vgather' if near else 'vread'}{'_n' if count is not None else ''}"
                return f"{name}({self.term(place)}, {self.term(offsets)}{self._count(count)})"
            case Fma(a, b, c):
                return f"vfma({self.term(a)}, {self.term(b)}, {self.term(c)})"
            case Lane(value, var):
                return f"{value.name}[{var}]"
            case Lanes(dtype):
                return "NEVE_VD" if dtype is DType.float64 else "NEVE_VL"
            case FirstLanes(value, count, other):
                return f"vfirst({self.term(value)}, {self.term(count)}, {self.term(other)})"
            case AcrossLanes(kind, value):
                return f"vred_{kind}({self.term(value)})"
        return self._integer(t)

    def _integer(self, t: Term) -> str:
        match t:
            case Least(a, b):
                return f"neve_min({self.term(a)}, {self.term(b)})"
            case Bounded(value, least, most):
                return f"neve_max({self.term(least)}, neve_min({self.term(value)}, {self.term(most)}))"
            case Minus(a, b):
                return f"{self.term(a)} - {self.term(b)}"
            case Fitting(begin, end, step):
                low, high = (self.term(begin) if begin is not None else ""), self.term(end)
                whole = f"({high}{f' - {low}' if low else ''}) / {step} * {step}"
                return f"{low} + {whole}" if low else whole
            case Compare(op, a, b):
                return f"{self.term(a)} {op} {self.term(b)}"
            case Within(index, extent):
                return f"(uint64_t)({self.term(index)}) < (uint64_t)({self.term(extent)})"
            case Divides(count, by):
                return f"({count.name} & {by - 1}) == 0"
            case AllOf(tests):
                return " && ".join(self.term(x) for x in tests)
        raise TypeError(t)

    def _apply(self, t: Apply) -> str:
        form, d = FUNCTIONS[t.fn][t.form], t.dtype
        types = {"T": VALUES[d], "U": UNSIGNED.get(d, "uint8_t"), "B": str(8 * d.size)}
        return form.format(*(self.term(a) for a in t.args), **types)

    def _read(self, t: Fetch) -> str:
        at = self.term(t.place)
        if t.stride is None:
            half = SCALARS.get(t.dtype)
            return f"s{half}_to_f(*({at}))" if half else f"*({at})"
        tail = self._count(t.count)
        if t.dtype is DType.bool:
            return f"vmask_load{'_n' if tail else ''}({at}, {self.term(t.stride)}{tail})"
        if t.dtype.is_int:
            return f"vints_{t.dtype.value}{'_n' if tail else ''}({at}, {self.term(t.stride)}{tail})"
        stride = "" if t.stride.index.const == 1 else f", {self.term(t.stride)}"
        return f"{_lanes('vload', t.stride, t.count, t.dtype)}({at}{stride}{tail})"


def _lanes(name: str, stride: Size, count: Term | None, dtype: DType) -> str:
    strided = "" if stride.index.const == 1 else "_strided"
    return f"{name}{strided}{HALVES.get(dtype, '')}{'_n' if count is not None else ''}"


def literal(value: float | bool, dtype: DType) -> str:
    """A C literal of dtype's value type."""
    if dtype.is_float:
        x = float(round_to(np.asarray(value, np.float64), dtype)) if dtype in HALVES else float(value)
        return _float(x, dtype is DType.float64)
    if dtype is DType.bool:
        return str(int(bool(value)))
    n = int(value)
    if dtype in (DType.int32, DType.int64) and n == -(1 << (8 * dtype.size - 1)):
        return f"INT{8 * dtype.size}_MIN"
    if dtype is DType.int64:
        return f"INT64_C({n})" if n >= 0 else f"(-INT64_C({-n}))"
    return str(n) if n >= 0 else f"({n})"


def _float(x: float, double: bool) -> str:
    x = x if double else float(np.float32(x))
    end = "" if double else "f"
    if x != x:
        return f'__builtin_nan{end}("")'
    if x in (float("inf"), float("-inf")):
        return f"{'-' if x < 0 else ''}__builtin_inf{end}()"
    text = f"{x!r}{end}"
    return f"({text})" if text[0] == "-" else text


def convert(text: str, source: DType, to: DType) -> str:
    """C that converts as torch's `to` does on x86.

    Out-of-range floats give the integer type's minimum, wrapped to narrow types.
    """
    if source is to:
        return text
    if to is DType.bool:
        return f"({text} != 0)"
    if to.is_float:
        value, half = f"({VALUES[to]}){text}", SCALARS.get(to)
        return f"s{half}_to_f(sf_to_{half}({value}))" if half else value
    if source.is_float:
        wide = "int64" if to in (DType.int64, DType.uint8) else "int32"
        return f"({VALUES[to]})neve_to_{wide}({text})"
    return f"({VALUES[to]}){text}"


def _accumulate(kind: str, dtype: DType, out: str, x: str) -> str:
    if kind in ("sum", "prod"):
        op = "+" if kind == "sum" else "*"
        if dtype.is_float:
            return f"{out} {op}= {x};"
        return f"{out} = ({VALUES[dtype]})((uint64_t){out} {op} (uint64_t){x});"
    if kind in ("any", "all"):
        return f"{out} {'|' if kind == 'any' else '&'}= ({x} != 0);"
    if kind == "logaddexp":
        return f"{out} = sd_logaddexp({out}, {x});"
    better = f"{x} {'>' if kind == 'max' else '<'} {out}"
    if dtype.is_float:
        return f"if ({out} == {out} && ({better} || {x} != {x})) {out} = {x};"
    return f"if ({better}) {out} = {x};"
