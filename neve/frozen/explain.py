"""`explain_state`: what freezing does with every attribute of a model, and why."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import TYPE_CHECKING, Any

from neve.errors import FreezeError
from neve.frozen.calls import Examples, examples_of, in_evaluation, origin_of
from neve.frozen.module import FrozenModule
from neve.frozen.snapshot import ModuleSnapshot, ScriptSnapshot, Snapshot
from neve.frozen.specialise import Call, Options, detached, varies
from neve.trees import leaves

if TYPE_CHECKING:
    from neve.ir.graph import Graph, Node, Program

_LOCK = threading.Lock()


@dataclass(frozen=True)
class Fate:
    """What becomes of an attribute: fate is "folded" (a constant of the code), "kept" (read and written by calls), or
    "unused". why is a sentence; where the user's source line, "" if there is none to name.
    """

    path: str
    fate: str
    why: str
    where: str = ""

    def __str__(self) -> str:
        return f"{self.path}: {self.fate}, {self.why}{f'  ({self.where})' if self.where else ''}"


class Explanation(Sequence[Fate]):
    """The fates of all attributes in the model's order; by number, or by dotted path. As text, a line for each."""

    def __init__(self, fates: Sequence[Fate]) -> None:
        self._fates = tuple(fates)

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, str):
            found = next((f for f in self._fates if f.path == key), None)
            if found is None:
                raise KeyError(f"no attribute {key!r}; there is {', '.join(f.path for f in self._fates) or 'none'}")
            return found
        return self._fates[key]

    def __len__(self) -> int:
        return len(self._fates)

    def __str__(self) -> str:
        return "\n".join(map(str, self._fates))

    __repr__ = __str__


def explain_state(module: Any, *, example_inputs: Examples = None) -> Explanation:
    """For every attribute of a model, submodules included, whether freezing folds, keeps or drops it, and why.

    module: as of `neve.freeze`, in any mode; of a FrozenModule the methods and names that were preserved count.
    example_inputs: as of `neve.freeze`; of a model, the methods in it are those that count, forward alone by default.
        Without any, the bundled inputs, or those that a FrozenModule was called with.
    What is reported holds for these inputs: a branch that they do not take reads nothing. Raises FreezeError without
    inputs, CaptureError for a model that cannot be captured.
    """
    if isinstance(module, FrozenModule):
        frozen, calls = module, dict(module._code.calls)
        calls |= examples_of(frozen, example_inputs) if example_inputs is not None or not calls else {}
    else:
        methods = list(example_inputs) if isinstance(example_inputs, Mapping) else ["forward"]
        frozen = FrozenModule(in_evaluation(origin_of(module)), methods, (), Options())
        calls = examples_of(frozen, example_inputs)
    if not calls:
        raise FreezeError(
            "what a model does with its attributes is found by running it: give example_inputs=(x,), or bundle inputs"
        )
    return Explanation(list(_fates(frozen._origin, frozen._code.settings, calls)))


def _fates(origin: Snapshot, settings: Sequence[str], calls: Mapping[str, Call]) -> Iterator[Fate]:
    from neve.capture.export import capture

    calls = {m: (detached(args), detached(kwargs)) for m, (args, kwargs) in calls.items()}
    args, kwargs = calls.get("forward", (None, None))
    methods = {m: {"args": a, "kwargs": k} for m, (a, k) in calls.items() if m != "forward"}
    preserved = [p for p in settings if varies(origin.look(p))]
    program = capture(origin.model, args, kwargs, methods=methods or None, preserved_attrs=preserved)
    seen = _Seen(program, _reads(origin, calls))
    for path, value in origin.attributes():
        yield _fate(path, value, seen, path in settings)


def _fate(path: str, value: Any, seen: _Seen, preserved: bool) -> Fate:
    if path in seen.writes:
        return Fate(path, "kept", *seen.writes[path])
    if preserved:
        return Fate(path, "kept", "preserved by name: calls read it")
    where = seen.reads.get(path)
    if where is None:
        where = seen.tensor(value)
    if where is None:
        return Fate(path, "unused", "no method reads it")
    return Fate(path, "folded", "it is read, and no method writes it", where)


class _Seen:
    """What a program writes, path → (why, where), and reads, path → where; tensors also by their memory."""

    def __init__(self, program: Program, reads: Mapping[str, str]) -> None:
        from neve.ir.graph import StateVar
        from neve.ir.walk import constants

        self.reads = dict(reads)
        self.writes: dict[str, tuple[str, str]] = {}
        self._memory: dict[Any, str] = {}
        written: dict[StateVar, tuple[str, str]] = {}
        used: dict[str, str] = {}
        for name, method in program.methods.items():
            _scan(method.graph, name, written, used)
        self._states = {s.name: s for s in program.state}
        for path, tree in program.attributes.items():
            states = [program.state[i] for i in leaves(tree)]
            for state in states:
                if state in written:
                    why, where = written[state]
                    shared = "" if state.name.split("[")[0].startswith(path) else f"shares memory with {state.name}, "
                    self.writes[path] = (f"{shared}{why}", where)
                    break
            else:
                if any(s.name in used for s in states):
                    self.reads.setdefault(path, used[next(s.name for s in states if s.name in used)])
        for c in constants(program):
            if c.name in used:
                self.reads.setdefault(c.name, used[c.name])
                if c.array.size:
                    self._memory[c.array.__array_interface__["data"][0], c.array.shape] = used[c.name]

    def tensor(self, value: Any) -> str | None:
        """Where a tensor that goes by another name is read."""
        import torch

        if not isinstance(value, torch.Tensor) or value.layout is not torch.strided or not value.numel():
            return None
        return self._memory.get((value.data_ptr(), tuple(value.shape)))


def _scan(graph: Graph, method: str, written: dict[Any, tuple[str, str]], used: dict[str, str]) -> None:
    """Note the line of each write of state and of the first use of each constant and state."""
    from neve.ir.walk import subgraphs
    from neve.ops.control import ReadState, WriteState
    from neve.ops.source import Constant

    made = graph.producers()
    named: dict[Any, str] = {}
    for node in graph.nodes:
        if isinstance(node.op, (Constant, ReadState)):
            named[node.output] = node.op.tensor.name if isinstance(node.op, Constant) else node.op.var.name
        elif isinstance(node.op, WriteState):
            where = node.origin.source or _source(made.get(node.inputs[0]))
            written.setdefault(node.op.var, (f"written by {method}", where))
        else:
            for v in node.inputs:
                if v in named:
                    used.setdefault(named[v], node.origin.source)
        for _, inner in subgraphs(node.op):
            _scan(inner, method, written, used)
    for v in graph.outputs:
        if v in named:
            used.setdefault(named[v], "")


def _source(node: Node | None) -> str:
    return node.origin.source if node is not None else ""


def _reads(origin: Snapshot, calls: Mapping[str, Call]) -> dict[str, str]:
    """Path → line of attributes that are no tensors and that the calls read."""
    import torch

    found: dict[str, str] = {}
    if isinstance(origin, ScriptSnapshot):
        from neve.capture.torchscript.capture import interpreted
        from neve.capture.torchscript.entry import archive_of

        wanted = {m: {"args": args, "kwargs": kwargs} for m, (args, kwargs) in calls.items()}
        found = interpreted(archive_of(origin.model), wanted)[0].reads
    elif isinstance(origin, ModuleSnapshot):
        from neve.capture.entry_module import method_of
        from neve.check.verify import clone

        model = origin.replaced({}).model
        for m, (args, kwargs) in calls.items():
            with _recorded(model) as found_here, torch.no_grad():
                method_of(model, m)(*clone(args), **clone(kwargs))
            found = {**found_here, **found}
    return {p: w for p, w in found.items() if origin.has(p) and not isinstance(origin.look(p), torch.Tensor)}


@contextmanager
def _recorded(model: Any) -> Iterator[dict[str, str]]:
    """Yields a dict that gets the path of every attribute that is read of the model's modules, and the user's line."""
    from torch import nn

    paths = {id(m): path for path, m in model.named_modules()}
    found: dict[str, str] = {}
    plain = nn.Module.__getattribute__

    def record(self: Any, name: str) -> Any:
        path = paths.get(id(self))
        if path is not None and not name.startswith("_") and name != "training":
            full = f"{path}.{name}".lstrip(".")
            if full not in found:
                found[full] = _user_line()
        return plain(self, name)

    with _LOCK:
        nn.Module.__getattribute__ = record  # type: ignore[method-assign]
        try:
            yield found
        finally:
            del nn.Module.__getattribute__


def _user_line() -> str:
    """The line that runs, of the innermost file that is neither torch's nor neve's."""
    from neve.capture.diagnose import INTERNAL, short_path

    frame: FrameType | None = sys._getframe(2)
    while frame is not None:
        name = frame.f_code.co_filename
        if not name.startswith(INTERNAL) and "<" not in name:
            return f"{short_path(name)}:{frame.f_lineno}"
        frame = frame.f_back
    return ""
