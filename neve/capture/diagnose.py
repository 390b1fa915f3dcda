"""Where a node comes from, and what to tell the user when a model cannot be captured."""

from __future__ import annotations

import importlib
import inspect
import logging
import os
import re
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import fx

from neve.errors import CaptureError
from neve.internals import missing, replaced
from neve.ir.graph import Origin

SHOWN = 5
UNTRACED = re.compile("fake tensor in the exported program constant's list|is not tracked with proxy")
FRAME = re.compile(r'File "([^"]+)", line (\d+), in (\S+)(?:\n(?!\s*File ")\s*([^\n]*))?')
SCRIPTED = "torchscript:"
GENERATED = "<eval_with_key>"
"""The file of code that torch makes of a graph, such as a branch's."""
INTERNAL = (
    os.path.dirname(inspect.__file__) + os.sep + "inspect.py",
    os.path.dirname(torch.__file__) + os.sep,
    os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep,
)


class NotTraceable(CaptureError):
    """What torch.export cannot trace: compiling the model's source may still capture it."""


@contextmanager
def quiet() -> Iterator[None]:
    """Without warnings, and without what torch logs and prints of failures, which we say ourselves."""
    logger = logging.getLogger("torch")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    trace: Any = None if missing("torch.export._trace") else importlib.import_module("torch.export._trace")
    if trace is not None:
        trace.print = lambda *_, **__: None  # it prints the graph so far
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
        if trace is not None:
            vars(trace).pop("print", None)


@contextmanager
def frames_of(method: str) -> Iterator[None]:
    """With the lines of that method on record where torch.export knows those of forward alone."""
    name = "torch.fx.proxy.TracerBase._filter_traceback_frames"
    if method.rpartition(".")[2] == "forward" or missing(name):
        yield
        return

    def users(_: Any, summary: traceback.StackSummary) -> traceback.StackSummary:
        entered = max((i for i, f in enumerate(summary) if f.filename.startswith(INTERNAL[-1])), default=-1)
        inner = [f for f in summary[entered + 1 :] if not f.filename.startswith(INTERNAL)]
        return traceback.StackSummary.from_list(inner)

    with replaced((name, users)):
        yield


def op_name(target: Any) -> str:
    """An op as the user may know it: "aten.gelu", "cond"."""
    if isinstance(target, torch._ops.OpOverload):
        return str(target).removesuffix(".default")
    return getattr(target, "__name__", None) or str(target)


def origin(node: fx.Node, strip: str = "") -> Origin:
    """The module path and the user's line of a node."""
    frame = _frame(node)
    return Origin(module(node, strip), f"{short_path(frame[0])}:{frame[1]}" if frame else "")


def at(node: fx.Node, strip: str = "") -> str:
    """Where a node is, as the end of a message."""
    frame, path = _frame(node), module(node, strip)
    return where(path, frame[0], int(frame[1]), frame[3].strip()) if frame else where(path)


def where(module: str, file: str = "", line: int = 0, text: str = "") -> str:
    """A module's path and a source line, with what it says, as the end of a message."""
    parts = [f"in {module}"] if module else []
    if file:
        parts.append(f"{file}:{line}" + (f": {text}" if text else ""))
    return f"  ({', '.join(parts)})" if parts else ""


def scripted_file(module: str, file: str) -> str:
    """The name of a file on the Python stack that tells the module that a line of TorchScript belongs to."""
    return f"{SCRIPTED}{module}:{file}"


def module(node: fx.Node, strip: str = "") -> str:
    """The dotted path of the innermost module that made the node."""
    stack = node.meta.get("nn_module_stack") or {}
    path = str(list(stack.values())[-1][0]) if stack else ""
    path = re.sub(r"^L\['self'\]\.?", "", path)
    path = f"{path}.".removeprefix(strip).strip(".")
    frames = FRAME.findall(node.meta.get("stack_trace") or "") if not path else []
    return decoded(frames[-1][0])[0] if frames else path


def _frame(node: fx.Node) -> tuple[str, ...] | None:
    frames = [(decoded(f[0])[1], *f[1:]) for f in FRAME.findall(node.meta.get("stack_trace") or "")]
    theirs = [f for f in frames if not f[0].startswith((INTERNAL[-1], GENERATED))]
    own = [f for f in theirs if not f[0].startswith(INTERNAL)]
    return (own or theirs)[-1] if theirs else None


def decoded(file: str) -> tuple[str, str]:
    """The module that the file of a stack frame tells (see scripted_file), and the file itself."""
    if not file.startswith(SCRIPTED):
        return "", file
    path, _, file = file.removeprefix(SCRIPTED).partition(":")
    return path, file


def short_path(path: str) -> str:
    """The file without what depends on the machine: from site-packages, else relative to here, else its name."""
    _, found, rest = path.replace(os.sep, "/").rpartition("/site-packages/")
    if found:
        return rest
    relative = os.path.relpath(path)
    return os.path.basename(path) if relative.startswith("..") else relative.replace(os.sep, "/")


def unsupported(graph: fx.Graph, table: Mapping[Any, Any], reasons: list[str], strip: str = "") -> None:
    """Add a reason for every op of graph that has no builder, with the places that use it."""
    places: dict[Any, list[fx.Node]] = {}
    for node in graph.nodes:
        known = not isinstance(node.target, torch._ops.OpOverload) or node.target in table
        if not known and not isinstance(node.meta.get("val"), (torch.SymInt, torch.SymFloat, torch.SymBool)):
            places.setdefault(node.target, []).append(node)
    for target, nodes in places.items():
        where = "".join(
            f"\n      {text}" for text in dict.fromkeys(at(n, strip).strip() for n in nodes[:SHOWN]) if text
        )
        more = f"\n      and {len(nodes) - SHOWN} more" if len(nodes) > SHOWN else ""
        reasons.append(f"{op_name(target)} is not supported{_why(target)}{where}{more}")


def _why(target: Any) -> str:
    name = str(target).split(".")[1] if "." in str(target) else str(target)
    if torch.Tag.nondeterministic_seeded in getattr(target, "tags", ()):
        return ": its result is random"
    if torch.Tag.data_dependent_output in target.tags or torch.Tag.dynamic_output_shape in target.tags:
        return ": the shape of its result depends on the values of its input"
    if "complex" in name or name.startswith(("view_as_real", "_fft")):
        return ": complex numbers are not supported"
    if "quant" in name:
        return ": quantized tensors are not supported"
    return ""


def export_error(error: BaseException, scripted: bool = False) -> CaptureError:
    """What torch.export raised, as: what, where in the user's source, and what to do.

    scripted: parts of the model are ScriptModules.
    """
    if isinstance(error, CaptureError):
        return type(error)([r + user_line(error) for r in error.reasons])
    text = str(error)
    kind: type[CaptureError] = NotTraceable if scripted else CaptureError
    for wanted, explain in _EXPLANATIONS:
        if re.search(wanted, f"{type(error).__name__}: {text}", re.DOTALL):
            what = explain(text)
            kind = NotTraceable if explain in (_data_dependent, _constraints) else kind
            break
    else:
        what, kind = f"torch.export raised {type(error).__name__}: {first_lines(text)}", NotTraceable
    return kind(what + user_line(error))


def user_line(error: BaseException) -> str:
    """The innermost line of the traceback that is neither torch's nor neve's."""
    frames = traceback.extract_tb(error.__traceback__)
    chain = error.__cause__ or error.__context__
    if chain is not None:
        frames = traceback.extract_tb(chain.__traceback__) or frames
    own = [(*decoded(f.filename), f.lineno or 0, f.line or "") for f in frames]
    own += [(*decoded(f[0]), int(f[1]), f[3]) for f in FRAME.findall(str(error))]
    own = [f for f in own if not f[1].startswith(INTERNAL) and "<" not in f[1]]
    return where(own[-1][0], own[-1][1], own[-1][2], own[-1][3].strip()) if own else ""


def first_lines(text: str, n: int = 3) -> str:
    return " ".join(line.strip() for line in text.strip().splitlines() if line.strip())[:300] if text else ""


def _data_dependent(text: str) -> str:
    return (
        "Python control flow depends on the values of a tensor, which are unknown while capturing; "
        "use torch.where, or torch.cond"
        " "
        "and torch.while_loop with a function for each branch"
    )


def _constraints(text: str) -> str:
    lines = [line.strip().lstrip("- ") for line in text.splitlines() if line.strip().startswith("- ")]
    _, found, fixes = text.partition("Suggested fixes:")
    fix = " ".join(fixes.split("\n\n")[0].split()) if found else ""
    wanted = "; ".join(lines)[:600]
    return f"the declared dynamic sizes do not fit the model: {wanted}" + (f" (suggested: {fix})" if fix else "")


_EXPLANATIONS: tuple[tuple[str, Callable[[str], str]], ...] = (
    (
        r"ConstraintViolation|Constraints violated",
        _constraints,
    ),
    (
        r"GuardOnDataDependent|[Dd]ata-dependent (expression|branching)|data-dependent operator|DataDependent",
        _data_dependent,
    ),
    (
        r"Dynamo does not know how to trace|Unsupported:",
        lambda t: "the model uses Python that torch.export cannot follow: " + first_lines(t),
    ),
    (
        r"Type '?.*'? is not (a )?supported|Unsupported input type|not an allowed type",
        lambda t: (
            f"an argument or result is of a type that torch.export does not take: {first_lines(t)}; "
            "pass tensors in tuples, lists or dicts"
        ),
    ),
    (
        r"^RuntimeError: x\.data = ",
        lambda t: f"{t}, which torch.export cannot follow: write into it (with torch.no_grad(): x.copy_(…))",
    ),
    (
        UNTRACED.pattern,
        lambda t: (
            "the model makes a tensor in a way that torch.export cannot follow (x.data, memory from numpy, or other "
            "code that goes around torch's operators): use x.detach() and torch's operators"
        ),
    ),
    (
        r"missing (\d+|a) required|takes \d+ positional|unexpected keyword|too many positional",
        lambda t: f"the example arguments do not fit forward: {first_lines(t)}",
    ),
)
