"""`neve lint`: what in a model keeps it from being compiled, or makes the result larger or slower than it need be.

Each finding says what, in which module, at which line of the model's source, and how to fix it. An *error* is what
`neve.compile` would refuse, or a result that would surprise; a *warning* costs time or memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from neve.check.findings import CODES, HUGE, Finding
from neve.errors import CaptureError

if TYPE_CHECKING:
    from neve.artifact import Artifact


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
