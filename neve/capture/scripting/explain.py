"""What torch.jit's compiler said, as: what is wrong, the user's line, and the fix in one sentence.

torch.jit stops at the first mistake. Of what it cannot parse at all `unsupported` finds every place at once.
"""

from __future__ import annotations

import ast
import inspect
import linecache
import re
import textwrap
from collections.abc import Iterator, Mapping
from types import CodeType

from neve.capture import diagnose
from neve.capture.scripting.messages import MEANINGS
from neve.capture.scripting.observe import Observations
from neve.capture.scripting.rewrite import Known
from neve.errors import CaptureError

PLACE = re.compile(r'File "([^"]+)", line (\d+)')
FILE = re.compile(r"(\S+\.py):(\d+)")
CANNOT = "its source cannot be compiled"
FORM_ERRORS = frozenset({"NotSupportedError", "UnsupportedNodeError", "FrontendError"})


def reasons(error: BaseException, known: Known) -> list[str]:
    """Why torch.jit could not compile a model."""
    found = [f"{CANNOT}: {what}{_where(place)}" for place, what in unsupported(known.observations, known.rewritten)]
    if not found or type(error).__name__ not in FORM_ERRORS:
        place = _place(str(error), known)
        numpy = place is not None and known.last is not None and place[0] == known.last[0] and place[1] in known.numpy
        found.append(f"{CANNOT}: {_explained('numpy' if numpy else str(error))}{_where(place)}")
    return list(dict.fromkeys(found))


def check_assumed(known: Known) -> None:
    """CaptureError if the code writes an attribute that was taken for a constant."""
    found = [
        f"{CANNOT}: self.{name} decides what getattr takes or how often a loop over modules runs, but is also written: "
        f"use an attribute that stays as __init__ set it{_where((file, line))}"
        for name, (file, line, is_list) in known.assumed.items()
        if name in known.stored or (is_list and name in known.exposed)
    ]
    if found:
        raise CaptureError(found)


def _place(text: str, known: Known) -> tuple[str, int] | None:
    """The file and line that torch.jit points at, or those of what it was about to compile."""
    found = PLACE.search(text) or FILE.search(text)
    if found:
        return found[1], int(found[2])
    return (known.last[0], known.numpy[0]) if known.last and known.numpy else known.last


def _where(place: tuple[str, int] | None) -> str:
    return diagnose.where("", (*place, linecache.getline(*place).strip())) if place else ""


def _explained(text: str) -> str:
    for pattern, what in MEANINGS:
        found = re.search(pattern, text, re.DOTALL)
        if found:
            return what.format(
                **{k: textwrap.shorten(v, 100, placeholder=" …") for k, v in found.groupdict(default="").items()}
            )
    return f"torch.jit says: {diagnose.first_lines(text.partition('  File ' + chr(34))[0]).rstrip(' :')}"


# What has a form that torch.jit does not take.


def unsupported(ran: Observations, rewritten: Mapping[CodeType, ast.stmt]) -> Iterator[tuple[tuple[str, int], str]]:
    """Every place in the functions that ran whose form torch.jit does not take: (file, line), what and the fix."""
    for code in ran:
        function = rewritten.get(code) or _function(code)
        if function is None:
            continue
        for node in ast.walk(function):
            what = _form(node, function)
            if what:
                line = getattr(node, "lineno", function.lineno)
                yield (code.co_filename, code.co_firstlineno + line - 1), what


def _function(code: CodeType) -> ast.stmt | None:
    if code.co_name.startswith("<"):
        return None
    try:
        return ast.parse(textwrap.dedent("".join(inspect.getsourcelines(code)[0]))).body[0]
    except (OSError, TypeError, SyntaxError, IndexError):
        return None


def _form(node: ast.AST, function: ast.AST | None) -> str:
    match node:
        case ast.ListComp() | ast.GeneratorExp() | ast.DictComp() if len(node.generators) > 1 or node.generators[0].ifs:
            return "a comprehension has conditions, or several loops: write a for loop that appends"
        case ast.FunctionDef() if node is not function:
            return "a function is defined inside of a function: make it a method, or a function of the file"
        case ast.arguments(vararg=vararg, kwarg=kwarg) if vararg or kwarg:
            return "a function takes *args or **kwargs, and not the same in every call: name the arguments"
        case ast.Dict(keys=[ast.Tuple(), *_]):
            return "a dict has tuples as keys: use int or str"
        case ast.While(orelse=[_, *_]) | ast.For(orelse=[_, *_]):
            return "a loop has an else: set a flag in the loop, and test it behind it"
    return FORMS.get(type(node).__name__, "")


FORMS = {
    "Try": "try is used: test for the case beforehand, or leave the handling to the host program",
    "TryStar": "try is used: test for the case beforehand, or leave the handling to the host program",
    "Yield": "yield is used: return a list",
    "YieldFrom": "yield is used: return a list",
    "Await": "await is used: call the function directly",
    "AsyncFor": "async is used: call the function directly",
    "AsyncWith": "async is used: call the function directly",
    "Lambda": "a lambda is used: make it a method, or a function of the file, with def",
    "Global": "a global variable is written: make it an attribute of the module",
    "Nonlocal": "a variable of an outer function is written: make it an attribute of the module",
    "NamedExpr": ":= is used: assign in a statement before",
    "Match": "match is used: write if and elif",
    "SetComp": "a set is made: use a list, or a dict",
    "ClassDef": "a class is defined inside of a function: define it in the file",
    "Import": "a module is imported inside of a function: import it at the top of the file",
    "ImportFrom": "a module is imported inside of a function: import it at the top of the file",
}
