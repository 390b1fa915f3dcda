"""The tape: what an interpreted method does to tensors, as steps, with regions for branches and loops.

A `Recorder` runs each op on fake tensors, which gives shapes, dtypes and who shares memory, and notes it (in-place ops
as they are). A region names the outer tensors that it uses (`captured`) and those whose memory it writes
(`written`): a branch or loop gives the new content of these as results, copied back behind it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch._dispatch.python import enable_python_dispatcher
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.symbolic_shapes import ShapeEnv
from torch.utils import _pytree as pytree

from neve.capture import diagnose
from neve.capture.composed import COMPOSED
from neve.capture.held import storage_of
from neve.capture.overlaps import BY_VALUE, overlap, unordered
from neve.capture.torchscript.declared import Declared
from neve.capture.torchscript.values import KINDS, NOWHERE, Dim, Names, Num, Place, Refusal, Var

KNOWN = 4096
"""Constants of up to so many elements are computed at capture, so that control flow on them is decided there."""
MAX_STEPS = 200_000
MAX_PARTS = 20_000
ATEN = torch.ops.aten


Invalidated = dict[Var | int, str]
"""Why a tensor (its root), or a list, dict or object (its id), must not be used any more: it may not be what it is in
eager, as another that it is on some paths only has been written."""


@dataclass(eq=False)
class Step:
    """One op: an overload, or "cond", "while", or a Python function. args hold Vars of the same region."""

    op: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    outs: list[Var]
    place: Place | None = None


@dataclass(eq=False)
class Region:
    """A branch, a loop's body or condition, or a whole method (parent None)."""

    parent: Region | None
    steps: list[Step] = field(default_factory=list)
    params: list[Var] = field(default_factory=list)
    captured: dict[Var, Var] = field(default_factory=dict)
    written: dict[Var, None] = field(default_factory=dict)
    outputs: list[Var] = field(default_factory=list)
    fails: list[tuple[Var, str]] = field(default_factory=list)
    views: dict[Var, Var] = field(default_factory=dict)

    def inside(self, var: Var) -> bool:
        """Whether var was made in this region or in one inside it."""
        region: Region | None = var.region
        while region is not None:
            if region is self:
                return True
            region = region.parent
        return False


@dataclass
class Branch:
    """A region that has been run, and the messages of the failures that it can end in."""

    region: Region
    messages: list[str]


class Recorder:
    """Records into the innermost open region."""

    def __init__(self) -> None:
        environment = ShapeEnv()
        self.mode, self.declared = (
            FakeTensorMode(shape_env=environment, allow_non_fake_inputs=True),
            Declared(environment),
        )
        self.top = self.region = Region(None)
        self.place: Place | None = None
        self.invalidated: Invalidated = {}
        self.sharing: dict[Var, dict[Var, None]] = {}
        self.versions: dict[Var, int] = {}
        self.count = 0
        self.random: list[str] = []
        self._sizes: dict[str, Var] = {}

    # Variables.

    def fake(self, tensor: torch.Tensor) -> torch.Tensor:
        with self.mode:
            return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype)

    def input(self, meta: Any, name: str = "", value: torch.Tensor | None = None, needs: Names = NOWHERE) -> Var:
        """A new variable of the innermost region that no step makes."""
        var = Var(meta, self.region, value=value, needs=needs, name=name)
        self.region.params.append(var)
        return var

    def resolve(self, var: Var, region: Region | None = None) -> Var:
        """The variable that stands for var in a region: outer ones are captured, views of them made anew."""
        region = region or self.region
        row = row_of(var)
        if var.region is region and (row is None or self._current(row)):
            return var
        if var.outer is not None:
            return self.resolve(var.outer, region)  # so that a region has one variable for each outer tensor
        if var.root is not var and var.step is not None:
            made = region.views.get(var)
            if made is None or not self._current(row_of(made)):
                made = region.views[var] = self._again(var, region)
            return made
        if var not in region.captured:
            region.captured[var] = Var(
                var.meta, region, root=var.root, value=var.value, needs=var.needs, loose=var.loose, outer=var
            )
        return region.captured[var]

    def _again(self, var: Var, region: Region) -> Var:
        """The step that made a view, once more in a region."""
        step = var.step
        assert step is not None
        args, kwargs = (self._mapped(x, region) for x in (step.args, step.kwargs))
        made = Step(step.op, args, kwargs, [], step.place)
        for out in step.outs:
            made.outs.append(Var(out.meta, region, made, root=out.root, needs=out.needs, loose=out.loose))
            if out.row is not None:
                base, axis, index = out.row
                made.outs[-1].row = self.resolve(base, region), axis, self.resolve(index, region)
                made.outs[-1].version = self.versions.get(out.root, 0)
        region.steps.append(made)
        return made.outs[next(k for k, o in enumerate(step.outs) if o is var)]

    def _current(self, row: Var | None) -> bool:
        """Whether a row, if it is one, is what its tensor holds now."""
        if row is None or row.row is None:
            return True
        return row.version >= self.versions.get(row.root, 0)

    def use(self, var: Var) -> Var:
        """var in the innermost region, to be read or written. Refusal if it may not be what it is in eager."""
        if var.root in self.invalidated:
            raise Refusal(self.invalidated[var.root])
        return self.resolve(var)

    def pick(self, x: Var, axis: int, index: Var) -> Var:
        """x.select(axis, index) with the index in a tensor of one element: a view of x, whatever x is."""
        return self._part(_pick, x, axis, index)

    def window(self, x: Var, axis: int, index: Var) -> Var:
        """The entries of x along axis at the positions of the index, which differ: a view of x, as `pick`."""
        return self._part(ATEN.index_select.default, x, axis, index)

    def _part(self, op: Any, x: Var, axis: int, index: Var) -> Var:
        made = self.tensor(op, x, axis, index)
        made.root = x.root
        made.row, made.version = (x, axis, index), self.versions.get(x.root, 0)
        return made

    def _mapped(self, tree: Any, region: Region) -> Any:
        return _map_vars(lambda v: self.resolve(v, region), tree)

    # Steps.

    def call(self, op: Any, *args: Any, **kwargs: Any) -> Any:
        """Run and record an op (overload or function) on Vars and plain values; its results are Vars."""
        self.count += 1
        if self.count > MAX_STEPS:
            raise Refusal(f"the method takes more than {MAX_STEPS} steps once its static loops are unrolled")
        op, given = COMPOSED.get(op, op), list(variables((args, kwargs)))
        inner_args, inner_kwargs = _map_vars(self.use, args), _map_vars(self.use, kwargs)
        result = self._run(op, _map_vars(lambda v: v.meta, inner_args), _map_vars(lambda v: v.meta, inner_kwargs))
        needs = frozenset().union(*(v.needs for v in given)) if given else NOWHERE
        step = Step(op, inner_args, inner_kwargs, [], self.place)
        written = self._written(op, inner_args, inner_kwargs)
        for v in written:
            self._alone(op, v, list(variables((inner_args, inner_kwargs))))
            self.write(v)
        known = self._known(op, args, kwargs, given, result)
        wrapped = self._wrap(result, given, step, needs, known)
        self.region.steps.append(step)
        for v in written:
            self._put_back(v)
        if op in BY_LAYOUT and given[0].loose:
            return self._apart(wrapped, given[0])
        return wrapped

    def tensor(self, op: Any, *args: Any, **kwargs: Any) -> Var:
        """`call` of an op that has one result."""
        made = self.call(op, *args, **kwargs)
        assert isinstance(made, Var)
        return made

    def _apart(self, made: Var, source: Var) -> Var:
        """A tensor in memory of its own that in eager may be a view of another one."""
        own = self.tensor(ATEN.clone.default, made) if made.root is source.root else made
        own.loose = made.loose
        self.may_share(own, [source])
        return own

    def _run(self, op: Any, args: Any, kwargs: Any) -> Any:
        if _parts(op, args) > MAX_PARTS:
            raise Refusal(f"{_name(op)} of more than {MAX_PARTS} parts")
        # torch's Python decompositions keep sizes symbolic where kernels in C++ take their numbers
        symbolic = enable_python_dispatcher() if self.declared and op is not ATEN.dropout.default else nullcontext()
        try:
            with self.mode, torch.no_grad(), symbolic:
                result = op(*args, **kwargs)
            if fixed := self.declared.fixed():
                raise Refusal(f"{_name(op)} of a size that varies ({fixed}): torch has its result for fixed sizes only")
            return result
        except Refusal:
            raise
        except Exception as error:
            text = diagnose.first_lines(str(error))
            kind = type(error).__name__
            if "DynamicOutputShape" in kind or "DataDependent" in kind:
                text = "the shape of its result depends on the values of its input"
            raise Refusal(f"{_name(op)}: {text}") from error

    def _alone(self, op: Any, written: Var, operands: Sequence[Var]) -> None:
        """Refuse an op that writes elements that it reads at another place too, or may on some path."""
        may_be = self.sharing.get(written.root, {})
        paths = [v for v in (operands[:-1] if op in BY_VALUE else operands) if v.root in may_be]
        same = [v.meta for v in operands if v.root is written.root and storage_of(v.meta) == storage_of(written.meta)]
        if paths or overlap(op, written.meta, same):
            raise Refusal(unordered(_name(op)))

    def _wrap(self, result: Any, given: Sequence[Var], step: Step, needs: Names, known: Any) -> Any:
        if isinstance(result, torch.Tensor):
            for v in given:
                if v.meta is result:
                    return v
            made = Var(result, self.region, step, needs=needs, value=known if isinstance(known, torch.Tensor) else None)
            storage = storage_of(result)
            made.loose = any(v.loose for v in given)
            for v in given:
                if isinstance(v.meta, torch.Tensor) and storage_of(v.meta) == storage:
                    made.root = v.root
                    break
            step.outs.append(made)
            return made
        if isinstance(result, (torch.SymInt, torch.SymFloat, torch.SymBool)):
            step.outs.append(Var(result, self.region, step, needs=needs))
            return step.outs[-1]
        if isinstance(result, (list, tuple)):
            parts = known if isinstance(known, (list, tuple)) else [None] * len(result)
            wrapped = [self._wrap(r, given, step, needs, k) for r, k in zip(result, parts, strict=True)]
            return wrapped if isinstance(result, list) else tuple(wrapped)
        return result

    def _written(self, op: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Var]:
        """The arguments of an op that it writes."""
        if not isinstance(op, torch._ops.OpOverload):
            return []
        if torch.Tag.inplace_view in op.tags:
            raise Refusal(f"{_name(op)} changes the shape of a tensor in place: use the form without underscore")
        found: list[Var] = []
        for k, a in enumerate(op._schema.arguments):
            if a.alias_info is not None and a.alias_info.is_write:
                found += variables(kwargs.get(a.name, args[k] if k < len(args) else None))
        return found

    def _put_back(self, var: Var) -> None:
        """After a write to (a view of) a row: put it into its tensor."""
        row = row_of(var)
        if row is not None and row.row is not None:
            base, axis, index = row.row
            row.version = self.versions[row.root]
            several = row.meta.dim() == base.meta.dim()
            rows = row if several else self.call(ATEN.unsqueeze.default, row, axis)
            self.call(ATEN.index_copy_.default, base, axis, index, rows)
            row.version = self.versions[row.root]

    def write(self, var: Var) -> None:
        """Note that var's memory has been written."""
        root = var.root
        root.mutated = True
        self.versions[root] = self.versions.get(root, 0) + 1
        region: Region | None = self.region
        while region is not None and not region.inside(root):
            region.written[root] = None
            self.resolve(root, region)
            region = region.parent
        for other in self.sharing.get(root, ()):
            self.invalidated[other] = (
                "a tensor is written in place that is the same as another one on some paths only, and the other is "
                "used afterwards: write to a copy (x = x.clone())"
            )

    def overwrite(self, root: Var, content: Var) -> None:
        """Give a tensor that a branch or loop wrote the content that it has behind it."""
        invalidated, self.invalidated = self.invalidated, {}
        self.call(ATEN.copy_.default, root, content)
        self.invalidated |= invalidated

    def may_be(self, var: Var) -> list[Var]:
        """The roots that var is, or may be, in the memory of."""
        return [var.root, *self.sharing.get(var.root, ())]

    def may_share(self, var: Var, roots: Iterable[Var]) -> None:
        """Note that var, on some path, is the same memory as these tensors."""
        for r in dict.fromkeys(r.root for r in roots):
            for s in self.may_be(r):
                if s is not var.root:
                    self.sharing.setdefault(var.root, {})[s] = None
                    self.sharing.setdefault(s, {})[var.root] = None

    def _known(self, op: Any, args: Any, kwargs: Any, given: Sequence[Var], fake: Any) -> Any:
        """The result, if it can be computed now; fake is what it is like."""
        if not isinstance(op, torch._ops.OpOverload) or torch.Tag.nondeterministic_seeded in op.tags:
            return None
        if any(v.value is None or v.root.mutated or v.value.numel() > KNOWN for v in given) or op._schema.is_mutable:
            return None
        if not given and op not in CREATORS:
            return None
        if not all(t.numel() <= KNOWN for t in pytree.tree_leaves(fake) if isinstance(t, torch.Tensor)):
            return None
        try:
            with torch.no_grad():
                return op(*_map_vars(lambda v: v.value, args), **_map_vars(lambda v: v.value, kwargs))
        except Exception:
            return None

    # Numbers.

    def size(self, n: Any) -> Var | None:
        """A symbolic size (SymInt) as a variable of the innermost region; None if no input has it."""
        expression = n.node.expr
        if str(expression) not in self._sizes:
            found = next((v for v in self.top.params if _is_size(v.meta, expression)), None)
            if found is None:
                found = self._input_size(expression)
            if found is None:
                return None
            self._sizes[str(expression)] = found
        return self._sizes[str(expression)]

    def _input_size(self, expression: Any) -> Var | None:
        for v in self.top.params:
            shape = v.meta.shape if isinstance(v.meta, torch.Tensor) else ()
            for axis, n in enumerate(shape):
                if _is_size(n, expression):
                    made = Var(n, self.top)
                    self.top.steps.insert(0, Step(ATEN.sym_size.int, (v, axis), {}, [made], self.place))
                    made.step = self.top.steps[0]
                    return made
        return None

    def number(self, value: Any, kind: type) -> Var:
        """A number (int, float, bool, Num, Dim) as a 0-d tensor of its kind."""
        if isinstance(value, Num):
            return value.var if value.kind is kind else self.cast(value.var, KINDS[kind])
        if isinstance(value, Dim) and value.kind is bool:
            value = self.decided(value)
        if isinstance(value, Dim):
            held = self.tensor(ATEN.scalar_tensor.default, value.var, dtype=KINDS[value.kind])
            return self.cast(held, KINDS[kind])
        return self.tensor(ATEN.full.default, [], kind(value), dtype=KINDS[kind])

    def decided(self, value: Dim) -> bool:
        """The truth of a comparison of sizes that has one result (one that varies is a Num), noted on the tape."""
        truth = bool(value.var.meta)
        self.call(Assume(truth), value.var)
        return truth

    def cast(self, var: Var, dtype: torch.dtype) -> Var:
        if var.meta.dtype is dtype:
            return var
        return self.tensor(ATEN._to_copy.default, var, dtype=dtype)

    # Regions.

    def open(self) -> Region:
        self.region = Region(self.region)
        return self.region

    @contextmanager
    def at_top(self) -> Iterator[None]:
        """Record into the method's own region, before what is open now."""
        inner, self.region = self.region, self.top
        try:
            yield
        finally:
            self.region = inner

    @contextmanager
    def attempt(self) -> Iterator[None]:
        """A Refusal that leaves this undoes what has been recorded."""
        region = self.region
        steps, views, fails = set(region.steps), dict(region.views), list(region.fails)
        sharing = {k: dict(v) for k, v in self.sharing.items()}
        versions, invalidated = dict(self.versions), dict(self.invalidated)
        try:
            yield
        except Refusal:
            steps |= {v.step for v in self._sizes.values() if v.step}
            region.steps[:] = [s for s in region.steps if s in steps]
            region.views, region.fails = views, fails
            self.sharing, self.versions, self.invalidated = sharing, versions, invalidated
            raise

    def close(self) -> None:
        assert self.region.parent is not None
        self.region = self.region.parent

    def fail(self, flag: Var, message: str) -> None:
        """The call ends with this message if flag (bool, 0-d) is true."""
        if self.region.parent is None:
            self.call(ATEN._assert_async.msg, self.call(ATEN.logical_not.default, flag), message)
        else:
            self.region.fails.append((flag, message))

    def unless_failed(self, go: Var) -> Var:
        """go and not any failure of the open regions so far: what follows one must not run for ever."""
        region = self.region
        while region.parent is not None:
            for flag, _ in region.fails:
                go = self.call(ATEN.logical_and.default, go, self.call(ATEN.logical_not.default, flag))
            region = region.parent
        return go

    def failure_code(self, messages: list[str]) -> Var:
        """0, or the number in messages (from 1) of the first failure of the innermost region."""
        code = self.number(0, int)
        for flag, message in self.region.fails:
            if message not in messages:
                messages.append(message)
            first = self.call(ATEN.logical_and.default, flag, self.call(ATEN.eq.Scalar, code, 0))
            code = self.call(ATEN.where.self, first, self.number(messages.index(message) + 1, int), code)
        return code

    def check_code(self, code: Var, messages: Sequence[str]) -> None:
        """Pass on the failure of a region that gave this code."""
        for k, message in enumerate(messages):
            self.fail(self.call(ATEN.eq.Scalar, code, k + 1), message)

    def structured(self, op: str, args: tuple[Any, ...], metas: Sequence[Any], needs: Names, **more: Any) -> list[Var]:
        """Record a branch or a loop whose results have these metas."""
        step = Step(op, args, more, [], self.place)
        step.outs.extend(Var(m, self.region, step, needs=needs) for m in metas)
        self.region.steps.append(step)
        return step.outs

    def known_bool(self, var: Var) -> bool | None:
        """The truth of a one-element tensor, if capture knows it."""
        if var.value is None or var.root.mutated or var.value.numel() != 1:
            return None
        return bool(var.value.reshape(()).item())


CREATORS = frozenset(
    {
        ATEN.full.default, ATEN.scalar_tensor.default, ATEN.zeros.default, ATEN.ones.default, ATEN.arange.default,
        ATEN.arange.start, ATEN.arange.start_step, ATEN.eye.default, ATEN.linspace.default,
    }
)  # fmt: skip


BY_LAYOUT = frozenset(
    {
        ATEN.reshape.default, ATEN.reshape_as.default, ATEN.contiguous.default, ATEN.flatten.using_ints,
        ATEN.ravel.default, ATEN._reshape_alias.default,
    }
)  # fmt: skip
"""Ops that give a view of their argument or a copy, as its strides have it."""


def _is_size(n: Any, expression: Any) -> bool:
    return isinstance(n, torch.SymInt) and n.node.expr == expression


def _name(op: Any) -> str:
    return str(op).removesuffix(".default") if isinstance(op, torch._ops.OpOverload) else getattr(op, "__name__", "op")


def row_of(var: Var) -> Var | None:
    """The row that var is, or is a view of."""
    while var.row is None:
        bases = [a for a in variables(var.step.args if var.step else ()) if a.root is var.root]
        if not bases or var.root is var:
            return None
        var = bases[0]
    return var


def _parts(op: Any, args: tuple[Any, ...]) -> int:
    """Into how many tensors an op splits its first argument; 0 if it does not, or that is not known."""
    if (
        op not in (ATEN.unbind.int, ATEN.split.Tensor, ATEN.chunk.default, ATEN.tensor_split.sections)
        or not args[0].dim()
    ):
        return 0
    number = 1 if op is ATEN.unbind.int else 2
    axis = args[number] if len(args) > number else 0
    size = args[0].shape[axis] if isinstance(axis, int) and -args[0].dim() <= axis < args[0].dim() else 0
    if op is not ATEN.unbind.int and not (len(args) > 1 and isinstance(args[1], int)):
        return 0
    if op is ATEN.split.Tensor:
        size = size // max(args[1], 1) if isinstance(size, int) else 0
    elif op is not ATEN.unbind.int:
        size = args[1]
    return size if isinstance(size, int) else 0


def _pick(x: torch.Tensor, axis: int, index: torch.Tensor) -> torch.Tensor:
    return x.index_select(axis, index).squeeze(axis)


def variables(tree: Any) -> list[Var]:
    """The variables in a tree of lists, tuples and dicts."""
    found: list[Var] = []
    _map_vars(found.append, tree)
    return found


def _map_vars(f: Callable[[Var], Any], tree: Any) -> Any:
    """The tree of lists, tuples and dicts with each Var replaced."""
    if isinstance(tree, Var):
        return f(tree)
    if isinstance(tree, tuple) and hasattr(tree, "_fields"):
        return type(tree)(*(_map_vars(f, t) for t in tree))
    if isinstance(tree, (list, tuple)):
        parts = [_map_vars(f, t) for t in tree]
        return type(tree)(*parts) if hasattr(tree, "_fields") else type(tree)(parts)
    if isinstance(tree, dict):
        return {k: _map_vars(f, v) for k, v in tree.items()}
    return tree


class Assume:
    """A step that says: this relation between sizes has been taken as decided, so torch.export has to prove it."""

    def __init__(self, truth: bool) -> None:
        self.truth, self.__name__ = truth, "assume"

    def __call__(self, relation: Any) -> None:
        if bool(relation) is not self.truth:
            raise Refusal(f"the sizes decide {relation} another way than in the example")
