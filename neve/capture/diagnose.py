"""Where a node comes from, and what to tell the user when a model cannot be captured."""

from __future__ import annotations

import importlib
import inspect
import logging
import os
import re
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import fx

from neve.errors import CaptureError
from neve.internals import missing, replaced
from neve.ir.graph import Origin

SHOWN = 5
LONGEST = 400
"""Characters of a message of torch."""
ADVICE = (
    r"\s*The error above occurred when calling torch\.export",
    r"\s*For more information",
    r"\s*While executing %",
    r"\s*Original traceback:",
    r"\s*If this type holds tensors",
    r"\s*To register a custom",
    r"\s*Alternatively, you could also",
)
FRAME = re.compile(r'File "([^"]+)", line (\d+), in (\S+)(?:\n(?!\s*File ")\s*([^\n]*))?')
SCRIPTED = "torchscript:"
GENERATED = "<eval_with_key>"
"""The file of code that torch makes of a graph, such as a branch's."""
Line = tuple[str, int, str]
"""A file, a line's number in it, and what the line says."""
STDLIB = os.path.dirname(os.__file__) + os.sep
PACKAGES = "-packages"
ENTRY = os.path.join(os.path.dirname(os.path.abspath(__file__)), "entry_module.py")
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
def all_frames() -> Iterator[None]:
    """With all lines of the user's code on record where torch.export knows those of functions named forward alone."""
    name = "torch.fx.proxy.TracerBase._filter_traceback_frames"
    if missing(name):
        yield
        return
    torchs: Any = torch.fx.proxy.TracerBase._filter_traceback_frames

    def users(tracer: Any, summary: traceback.StackSummary) -> traceback.StackSummary:
        entered = next((i for i, f in enumerate(summary) if f.filename == ENTRY), len(summary))
        inner = [f for f in summary[entered + 1 :] if not f.filename.startswith(INTERNAL)]
        return traceback.StackSummary.from_list(inner) if inner else torchs(tracer, summary)

    with replaced((name, users)):
        yield


def op_name(target: Any) -> str:
    """An op as the user may know it: "aten.gelu", "cond"."""
    if isinstance(target, torch._ops.OpOverload):
        return str(target).removesuffix(".default")
    return getattr(target, "__name__", None) or str(target)


def origin(node: fx.Node, strip: str = "") -> Origin:
    """The module path and the innermost line outside of torch of a node."""
    frames = _frames(node)
    return Origin(module(node, strip), f"{short_path(frames[-1][0])}:{frames[-1][1]}" if frames else "")


def at(node: fx.Node, strip: str = "") -> str:
    """Where a node is, as the end of a message."""
    return where(module(node, strip), *_frames(node))


def where(module: str, *lines: Line) -> str:
    """A module's path and source lines, with what they say, as the end of a message."""
    parts = [f"in {module}"] if module else []
    parts += [f"{_shown(file)}:{line}" + (f": {text}" if text else "") for file, line, text in lines]
    return f"  ({', '.join(parts)})" if parts else ""


def _shown(file: str) -> str:
    return short_path(file) if PACKAGES in file else file


def telling(lines: Sequence[Line]) -> list[Line]:
    """Of a stack, outermost first, what tells a user where he is: the innermost line of his own code, and behind it the
    innermost of an installed package, if his code calls one there.
    """
    lines = [line for line in lines if not of_python(line[0])] or lines
    lines = [line for line in lines if not line[0].startswith("<")] or lines
    own = [line for line in lines if PACKAGES not in line[0]]
    return list(dict.fromkeys([*own[-1:], *lines[-1:]]))


def of_python(file: str) -> bool:
    """Whether a file is of Python's own library."""
    return file.startswith(STDLIB) and PACKAGES not in file


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


def _frames(node: fx.Node) -> list[Line]:
    """The lines that tell where a node is; of torch's own code if there are no others."""
    found = [(decoded(f[0])[1], int(f[1]), f[3].strip()) for f in FRAME.findall(node.meta.get("stack_trace") or "")]
    theirs = [f for f in found if not f[0].startswith((INTERNAL[-1], GENERATED))]
    return telling([f for f in theirs if not f[0].startswith(INTERNAL)]) or theirs[-1:]


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


def unsupported(graph: fx.Graph, builder_of: Callable[[Any], Any], reasons: list[str], strip: str = "") -> None:
    """Add a reason for every op of graph that has no builder, with the places that use it."""
    places: dict[Any, list[fx.Node]] = {}
    for node in graph.nodes:
        known = not isinstance(node.target, torch._ops.OpOverload) or builder_of(node.target)
        if not known and not isinstance(node.meta.get("val"), (torch.SymInt, torch.SymFloat, torch.SymBool)):
            places.setdefault(node.target, []).append(node)
    for target, nodes in places.items():
        where = "".join(
            f"\n      {text}" for text in dict.fromkeys(at(n, strip).strip() for n in nodes[:SHOWN]) if text
        )
        more = f"\n      and {len(nodes) - SHOWN} more" if len(nodes) > SHOWN else ""
        reasons.append(f"{op_name(target)} is not supported{_why(target)}{where}{more}")


def _why(target: Any) -> str:
    if target.namespace not in ("aten", "prims", "quantized"):
        return f": {to_register(target.namespace, target.overloadpacket.__name__)}"
    name = str(target).split(".")[1] if "." in str(target) else str(target)
    if torch.Tag.nondeterministic_seeded in getattr(target, "tags", ()):
        return ": its result is random"
    if torch.Tag.data_dependent_output in target.tags or torch.Tag.dynamic_output_shape in target.tags:
        return ": the shape of its result depends on the values of its input"
    if "quant" in name:
        return ": quantized tensors are not supported"
    return ""


def to_register(namespace: str, name: str) -> str:
    """What to do about a custom op."""
    return f'say what it computes in torch\'s ops: neve.register_op("{namespace}::{name}", a function)'


def user_line(error: BaseException) -> str:
    """Where in the user's code an error was raised, or what torch says of it in its text."""
    began = error.__cause__ or error.__context__  # whose traceback ends where it was caught
    stacks = [traceback.extract_tb(e.__traceback__) for e in (error, began) if e is not None]
    found = [(f.filename, f.lineno or 0, (f.line or "").strip()) for stack in stacks for f in stack]
    found += [(f[0], int(f[1]), f[3].strip()) for f in FRAME.findall(str(error))]
    found = [f for f in found if not decoded(f[0])[1].startswith(INTERNAL) and "<" not in decoded(f[0])[1]]
    lines = telling(found)
    return where(decoded(lines[0][0])[0], *((decoded(f)[1], n, text) for f, n, text in lines)) if lines else ""


def first_lines(text: str) -> str:
    """What a message of torch's says, without its advice, which is for torch, and cut between words if it is long."""
    reported = re.split("|".join(ADVICE), text, maxsplit=1)[0]
    words = " ".join(line.strip() for line in reported.strip().splitlines() if line.strip())
    return words if len(words) <= LONGEST else f"{words[:LONGEST].rpartition(' ')[0]} …"
