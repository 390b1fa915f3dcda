"""`neve lint`: what in a model keeps it from being compiled, or makes the result larger or slower than it need be.

Each finding says what, in which module, at which line of the model's source, and how to mend it. An *error* is what
`neve.compile` would refuse, or a result that would surprise; a *warning* costs time or memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from neve.errors import CaptureError

if TYPE_CHECKING:
    from neve.artifact import Artifact

ERRORS = {
    "unsupported-op": "an operator that neve does not compile",
    "data-dependent-control-flow": "Python's if, while, int() or the like on the values of a tensor",
    "data-dependent-shape": "a result whose size depends on the values of a tensor",
    "cannot-capture": "torch.export cannot follow the model, for another reason",
    "train-mode": "dropout or batch statistics that eval() does not turn off, or a module left in training mode",
}
WARNINGS = {
    "unused-weight": "a parameter or buffer that no result depends on",
    "dead-submodule": "a submodule that is never called, or whose result is never used",
    "constant-output": "an output that depends on no input",
    "huge-intermediate": "a tensor of the computation that takes more memory than a limit",
    "unbounded-dim": "a varying size without a maximum: memory cannot be fixed in advance",
    "float64-leak": "double precision in a model whose inputs are not",
    "plain-loops": "a product, convolution, attention or recurrent layer that no kernel takes as it is",
    "blocked-fusion": "an activation, or a second use, that keeps two layers from becoming one",
}
CODES = ERRORS | WARNINGS
HUGE = 64 << 20
"""Bytes from which an intermediate tensor is worth a warning."""


@dataclass(frozen=True)
class Finding:
    """One thing to mend. module is a dotted path ("" for the model itself), source is file:line where known."""

    code: str
    what: str
    mend: str
    module: str = ""
    source: str = ""
    method: str = "forward"

    @property
    def level(self) -> str:
        return "error" if self.code in ERRORS else "warning"

    def json(self) -> dict[str, str]:
        return {"level": self.level, **asdict(self)}

    def __str__(self) -> str:
        place = ", ".join(x for x in (self.source, f"in {self.module}" if self.module else "") if x)
        return f"{place or self.method}: {self.level}: {self.what}: {self.mend} [{self.code}]"


def lint(
    model: Any,
    args: Sequence[Any] | None = None,
    kwargs: Mapping[str, Any] | None = None,
    *,
    dynamic_shapes: Any = None,
    methods: Mapping[str, Any] | None = None,
    huge: int = HUGE,
) -> list[Finding]:
    """All findings of a model that is given as to `neve.compile`, errors first; huge is in bytes.

    Without example inputs those bundled with the model are used.

    What cannot be captured is a finding, not an exception. The model is left as it was.
    """
    from neve.capture.build import build
    from neve.capture.examples import examples_of
    from neve.capture.export import capture, is_code, is_scripted
    from neve.check import lint_capture

    found: list[Finding] = list(lint_capture.modules_in_training(model))
    try:
        if is_code(model):
            examples = examples_of(model, args, kwargs, dynamic_shapes, methods)
            args, kwargs, methods = None, None, {name: e.spec for name, e in examples.items()}
        view = lint_capture.export(model, args, kwargs, dynamic_shapes, methods)
        if view is None:
            program = capture(model, args, kwargs, dynamic_shapes=dynamic_shapes, methods=methods)
            found += lint_capture.unread(model, methods or {}) if is_scripted(model) else ()
        else:
            found += lint_capture.training_ops(view)
            found += lint_capture.unused(view)
            program = build(view.exported)
    except CaptureError as error:
        found += lint_capture.reasons(error, model, args, kwargs, methods)
        return _in_order(found)
    return _in_order([*found, *_of_program(program, huge)])


def lint_artifact(artifact: Artifact, huge: int = HUGE) -> list[Finding]:
    """What can be seen in a compiled model: constant outputs, memory, sizes, precision, fusions that were declined.

    Nothing of it is run, and torch is not needed.
    """
    from neve.check import lint_graph

    program = lint_graph.program_of(artifact)
    misses = lint_graph.misses_of(artifact)
    return _in_order(lint_graph.findings(program, program, misses, huge))


def _of_program(program: Any, huge: int) -> list[Finding]:
    from neve.check import lint_graph
    from neve.passes.pipeline import optimize

    optimized, log = optimize(program)
    misses = [(e.pass_name, e.text, e.origin) for e in log.misses]
    return list(lint_graph.findings(program, optimized, misses, huge))


def _in_order(found: Iterable[Finding]) -> list[Finding]:
    """Each finding once, errors first, in the order of the table; an operator named as a leftover of training is not
    reported as unsupported too, and of a line with a size that depends on values only the operator that begins it.
    """
    unique: list[Finding] = []
    for f in found:
        known = f.code == "data-dependent-shape" and any((f.code, f.source) == (u.code, u.source) for u in unique)
        if f not in unique and not known:
            unique.append(f)
    leftovers = {(f.module, f.source) for f in unique if f.code == "train-mode" and f.source}
    kept = [f for f in unique if f.code != "unsupported-op" or (f.module, f.source) not in leftovers]
    return sorted(kept, key=lambda f: list(CODES).index(f.code))
