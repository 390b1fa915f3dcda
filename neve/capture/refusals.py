"""What torch.export raised, as reasons: what, where in the user's source, and what to do."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from neve.capture import constraints
from neve.capture.diagnose import NotTraceable, first_lines, to_register, user_line
from neve.errors import CaptureError

RAW = ("torch.export raised ", "torch.jit says: ")
"""What is said before torch's own words, where nothing better is known."""
CONTROL_FLOW = "Python control flow depends on the values of a tensor"
UNTRACED = re.compile("fake tensor in the exported program constant's list|is not tracked with proxy")


class ModelRaises(CaptureError):
    """The model raises for the example what its trace raises: said, with the line."""

    def __init__(self, reason: str, said: str) -> None:
        super().__init__(reason)
        self.said = said


def export_error(
    error: BaseException,
    scripted: bool = False,
    assumed: constraints.Assumed | None = None,
    eager: Callable[[], BaseException | None] = lambda: None,
) -> CaptureError:
    """The error to raise for what torch.export raised.

    scripted: parts of the model are ScriptModules. eager gives what the model itself raises for the example.
    """
    if isinstance(error, CaptureError):
        return type(error)([r + user_line(error) for r in error.all_reasons])
    text = str(error)
    kind: type[CaptureError] = NotTraceable if scripted else CaptureError
    if _OF_SIZES.search(f"{type(error).__name__}: {text}"):
        return NotTraceable(constraints.explained(text, assumed))
    for wanted, explain in _EXPLANATIONS:
        if re.search(wanted, said := f"{type(error).__name__}: {text}", re.DOTALL):
            words = said if explain is _without_shapes else text
            return (NotTraceable if explain is _data_dependent else kind)(explain(words) + user_line(error))
    own = eager()
    if own is not None:
        said = f"{type(own).__name__}: {first_lines(str(own))}"
        what = f"the model itself raises for the example arguments, {said}{user_line(own) or user_line(error)}"
        alike = type(own) is type(error) and str(own) in text and not scripted
        return ModelRaises(what, said + user_line(own)) if alike else kind(what)
    return NotTraceable(f"{RAW[0]}{type(error).__name__}: {first_lines(text)}{user_line(error)}")


def merged(refused: CaptureError, others: Sequence[str]) -> list[str]:
    """The reasons of torch.export and those of a second way, those first that say the most; of torch.export alone, if
    it only wants the sizes declared otherwise.
    """
    if of_sizes(refused):
        return refused.all_reasons
    reasons = dict.fromkeys([*refused.all_reasons, *others])
    return sorted(reasons, key=lambda r: 2 if r.startswith(RAW) or RAW[1] in r else int(r.startswith(CONTROL_FLOW)))


def of_sizes(error: CaptureError) -> bool:
    """Whether torch.export only wants the sizes declared otherwise."""
    return all(r.startswith(constraints.HEAD) for r in error.all_reasons)


def _data_dependent(text: str) -> str:
    return (
        f"{CONTROL_FLOW}, which are unknown while capturing; "
        "use torch.where, or torch.cond and torch.while_loop with a function for each branch"
    )


def _of_type(text: str) -> str:
    found = re.search(r"<class '([^']+)'>( in output)?", text)
    if found is None:
        return f"an argument or result is of a type that torch.export does not take: {first_lines(text)}"
    what, name = "a result" if found[2] else "an argument", found[1].rpartition(".")[2]
    return f"{what} is of the type {name}, which cannot be taken apart: pass tensors in tuples, lists or dicts"


def _without_shapes(text: str) -> str:
    found = NO_SHAPES.search(text)
    assert found is not None
    namespace, name = (found[1], found[2]) if found[1] else (found[3], found[4])
    if namespace == "aten":
        return f"torch has no rule for the shapes that aten.{name} gives for symbolic sizes: fix the sizes"
    return f"torch cannot trace the custom op {namespace}.{name}: {to_register(namespace, name)}"


NO_SHAPES = re.compile(
    r"no fake impl registered for <CustomOpDef\((\w+)::(\w+)|UnsupportedOperatorException: (\w+)\.(\w+)"
)
_OF_SIZES = re.compile(
    r"ConstraintViolation|Constraints violated|Specializations unexpectedly required|"
    r"conflicts between user-specified ranges and inferred"
)
_EXPLANATIONS: tuple[tuple[str, Callable[[str], str]], ...] = (
    (NO_SHAPES.pattern, _without_shapes),
    (
        r"GuardOnDataDependent|[Dd]ata-dependent (expression|branching)|data-dependent operator|DataDependent",
        _data_dependent,
    ),
    (
        r"Dynamo does not know how to trace|Unsupported:",
        lambda t: "the model uses Python that torch.export cannot follow: " + first_lines(t),
    ),
    (
        r"Type '?.*'? is not (a )?supported|Unsupported input type|not an allowed type|in output, which is not a known",
        _of_type,
    ),
    (
        r"mismatch between the structure of `inputs` and `dynamic_shapes`",
        lambda t: (
            "dynamic_shapes is not of the same form as the arguments: give a tuple with an entry for each of them, or "
            "a dict by their names, None where nothing varies"
        ),
    ),
    (
        r"^RuntimeError: x\.data = ",
        lambda t: f"{t}, which torch.export cannot follow: write into it (with torch.no_grad(): x.copy_(…))",
    ),
    (
        r"\.numpy\(\) is not supported for tensor subclasses",
        lambda t: (
            "numpy is called in the model, which neither torch.export nor C can follow: use torch's functions, or do "
            "it outside and pass the result as an argument"
        ),
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
