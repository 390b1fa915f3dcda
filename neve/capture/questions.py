"""What a model's Python code asks of dynamic sizes (`if x.shape[0] == 1:`) while torch.export runs it.

Each is answered as for the example, without a guard of torch, and recorded here. The answer is then checked over the
declared range: where another one would raise, the module raises; what takes another branch is captured as well
(`sides`), or a reason.
"""

from __future__ import annotations

import ast
import linecache
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from types import FrameType
from typing import Any

import sympy
import torch
from sympy.core.relational import Relational

from neve.capture import diagnose
from neve.capture.aten_checks import truth_of
from neve.capture.context import Context
from neve.capture.float_sizes import compares_as_written
from neve.capture.guards import holds, multiples, of_strides, ours, shape_env, written
from neve.capture.hidden import is_users
from neve.capture.symbols import OF_DATA, MethodSymbols, UnsupportedSize, in_whole_numbers
from neve.internals import replaced, require
from neve.ops.control import Raise

TORCH = os.path.dirname(torch.__file__) + os.sep
OF_MODELS = tuple(TORCH + path for path in (f"nn{os.sep}", f"distributions{os.sep}", "functional.py"))
"""Python code of torch that runs as a part of models."""
OF_MACHINES = (diagnose.GENERATED, "<frozen")
"""Files of code that was generated, or that Python brings along."""
CHECK = "torch.fx.experimental.sym_node.SymNode.expect_true"
SYMBOLS = TORCH + os.path.join("fx", "experimental", "symbolic_shapes.py")
"""Between torch._check and SymNode."""
WITHIN = ("__init__.py", "_tensor.py", "overrides.py", "_export/non_strict_utils.py", "fx/experimental/proxy_tensor.py")
SIZES = (*(TORCH + path.replace("/", os.sep) for path in WITHIN), os.path.dirname(os.path.dirname(__file__)) + os.sep)
"""Between a model and the operators of SymInt: functions of torch, and modes of torch.export and of neve."""
RELATIONS = {
    "__eq__": sympy.Eq,
    "__ne__": sympy.Ne,
    "__lt__": sympy.Lt,
    "__le__": sympy.Le,
    "__gt__": sympy.Gt,
    "__ge__": sympy.Ge,
}
"""Methods of SymInt → what they ask of both operands."""
CHOICES = {"__sym_min__": sympy.Le, "__sym_max__": sympy.Ge}
"""Methods of SymInt that give one of both operands → for which relation the first one."""


FAR = 1e-6
"""What differs by more is not equal by rounding in doubles."""

RANGE = "declare a range without such sizes (torch.export.Dim with min and max)"

FIXED = "leave that dim out of dynamic_shapes"


@dataclass(frozen=True)
class Question:
    """relation: what was true of the sizes, in torch's symbols; file and line: of the model's code that asked; error:
    what a call raises where it is false, "" if it takes another way there.
    """

    relation: Any
    file: str
    line: int
    error: str

    @property
    def of_package(self) -> bool:
        return diagnose.PACKAGES in self.file and not self.file.startswith(OF_MODELS)


@contextmanager
def recorded(asked: dict[Question, None]) -> Iterator[None]:
    """While a model's code runs: every question is added to asked, in the order in which they were asked first."""
    require("a model with dynamic sizes", CHECK)
    checked: Any = torch.fx.experimental.sym_node.SymNode.expect_true

    def of_checks(node: Any, file: str, line: int) -> bool:
        frame = _asker(sys._getframe(1), (*SIZES, SYMBOLS)) if of_strides(node.expr) else None
        if frame is not None:  # torch._check of the model itself; what else it asserts is in the graph
            code = frame.f_code.co_filename
            asked.setdefault(Question(node.expr, code, frame.f_lineno, RuntimeError.__name__))
        return bool(checked(node, file, line))

    changes = [
        (CHECK, of_checks),
        ("torch.SymBool.__bool__", _truth(torch.SymBool.__bool__, bool, asked)),
        ("torch.SymBool.__int__", _truth(torch.SymBool.__int__, int, asked)),
    ]
    for name, relation in (RELATIONS | CHOICES).items():
        made = _decision(getattr(torch.SymInt, name), relation, name in CHOICES, asked)
        changes.append((f"torch.SymInt.{name}", made))
    with replaced(*changes):
        yield


def _truth(convert: Any, kind: type, asked: dict[Question, None]) -> Any:
    """Of a SymBool, in place of convert."""

    def converted(condition: Any) -> Any:
        node, frame = condition.node, _asker(sys._getframe(1), SIZES)
        if frame is None or node.is_constant() or not node.has_hint():
            return convert(condition)
        answered = bool(node.hint)
        error = _record(asked, node.expr, answered, frame)
        if error:  # from here on it is true: torch may use it
            node.expect_true("", 0) if answered else node.sym_not().expect_true("", 0)
        return kind(answered)

    return converted


def _decision(operator: Any, relation: Callable[..., Any], chooses: bool, asked: dict[Question, None]) -> Any:
    """Of two SymInts, in place of operator: torch decides at once what it takes as the same for all sizes."""

    def decided(a: Any, b: Any) -> Any:
        found = operator(a, b)
        frame = _asker(sys._getframe(1), SIZES)
        if frame is None or found is NotImplemented:
            return found
        left, right, result = (x.node.expr if hasattr(x, "node") else x for x in (a, b, found))
        if chooses and result in (left, right):
            operands = (left, right) if result == left else (right, left)
            _record(asked, relation(*operands, evaluate=False), True, frame)
        elif result in (sympy.true, sympy.false, True, False):
            _record(asked, relation(left, right, evaluate=False), bool(result), frame)
        return found

    return decided


def unanswered(asked: Sequence[Question], c: Context, program: Any) -> Iterator[str]:
    """Emit a check for every answer that is another one somewhere in the declared range, where eager raises then; a
    reason for every other one. What installed packages ask of 0 and 1 is none: much of it does not matter (`length > 1
    and mask is None` in transformers), and verification, which tries the least sizes first, finds what does.
    """
    env = shape_env(program)
    for question in asked:
        # of two symbols that turned out to be one, the question may have the other
        question = replace(question, relation=env.replace(question.relation)) if env is not None else question
        try:
            if not c.symbols.knows(question.relation.free_symbols):
                raise UnsupportedSize
            # no guard of torch stands behind an answer: what is not proved is open
            relation = relation_of(question, c.symbols)
            if holds(question.relation, c.symbols):
                continue
            if question.error:
                wrong = c("logical_not", truth_of(c, relation))
                c.emit(Raise(f"{question.error}: wanted sizes where {written(relation)}{where(question)}"), wrong)
            elif matters(question, c.symbols):
                yield refusal(question, sympy.Not(relation))
        except UnsupportedSize:
            yield (
                f"the model asks for {question.relation} of its sizes, which is not supported: {RANGE}, or compare "
                f"integers (n * 7 // 10 for n * 0.7){where(question)}"
            )


def relation_of(question: Question, symbols: MethodSymbols) -> Any:
    """What was true, in the symbols of the Program. Raises UnsupportedSize, also where Python may round otherwise."""
    for part in sympy.preorder_traversal(question.relation):
        if isinstance(part, Relational) and not all(map(compares_as_written, part.args)):
            whole = in_whole_numbers(symbols.rational(part.lhs) - symbols.rational(part.rhs))
            found = symbols.range(whole[0]) if whole is not None else None
            if whole is None or found is None or (found[0] < FAR * whole[1] and found[1] > -FAR * whole[1]):
                raise UnsupportedSize("a comparison of rounded numbers")
    if question.relation in (sympy.true, sympy.false):
        return question.relation
    return ours(question.relation, symbols)


def matters(question: Question, symbols: MethodSymbols) -> bool:
    """Whether another answer than the example's counts. Raises UnsupportedSize."""
    return not question.of_package or not holds(question.relation, symbols.of_two_or_more())


def refusal(question: Question, others: Any) -> str:
    """The reason for a branch that is not captured; others: for which sizes it is taken, in the Program's symbols."""
    return f"the model takes another branch where {written(others)}: {fix_for(others)}{where(question)}"


def fix_for(others: Any) -> str:
    """What to declare to have no such sizes."""
    if not others.has(sympy.Mod):
        return RANGE
    return multiples(others.args) if isinstance(others, sympy.Ne) else FIXED


def _asker(frame: FrameType | None, through: Sequence[str]) -> FrameType | None:
    """The frame that asks, through frames of these files, if it is of a model."""
    while frame is not None and frame.f_code.co_filename.startswith(tuple(through)) and not _of_model(frame):
        frame = frame.f_back
    return frame if frame is not None and _of_model(frame) else None


def _of_model(frame: FrameType) -> bool:
    file = frame.f_code.co_filename
    written = file.startswith("<") and not file.startswith(OF_MACHINES)  # by hand, without a file
    return written or is_users(file) or file.startswith((*OF_MODELS, diagnose.SCRIPTED))


def _record(asked: dict[Question, None], relation: Any, answer: bool, frame: FrameType) -> str:
    """Note a question; gives its error."""
    relation = relation if answer else sympy.Not(relation)
    if not all(OF_DATA.match(s.name) for s in relation.free_symbols):  # what torch decides of these alone, it proves
        file, line = frame.f_code.co_filename, frame.f_lineno
        error = _raises(file, line)
        asked.setdefault(Question(relation, file, line, error))
        return error
    return ""


@cache
def _raises(file: str, line: int) -> str:
    """What the code raises on the other answer, if the line is a test with one question; else ""."""
    try:
        tree = ast.parse("".join(linecache.getlines(file)))
    except SyntaxError:
        return ""
    tests = [n for n in ast.walk(tree) if isinstance(n, ast.If | ast.Assert)]
    here = [n for n in tests if n.test.lineno <= line <= (n.test.end_lineno or line)]
    if len(here) != 1 or any(isinstance(n, ast.BoolOp | ast.Call | ast.IfExp) for n in ast.walk(here[0].test)):
        return ""
    match here[0]:
        case ast.Assert():
            return AssertionError.__name__
        case ast.If(body=[ast.Raise(exc=ast.Call(func=ast.Name(id=name)) | ast.Name(id=name)), *_]):
            return name
    return ""


def where(question: Question) -> str:
    """The place of a question, as the end of a message."""
    module, file = diagnose.decoded(question.file)
    text = linecache.getline(file, question.line).strip()
    return diagnose.where(module, (diagnose.short_path(file), question.line, text))
