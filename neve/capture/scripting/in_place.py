"""Statements such as `x &= y`, where torch.jit computes something else than Python.

Of tensors torch.jit has no in-place form of &, |, ^, ** and //: it computes the result of `x[i] &= y` and drops it, and
of `x &= y` gives the name another tensor, which other names of the old one do not see.
"""

from __future__ import annotations

import ast
import copy

from neve.errors import CaptureError

METHODS: dict[type[ast.operator], str] = {
    ast.BitAnd: "bitwise_and_",
    ast.BitOr: "bitwise_or_",
    ast.BitXor: "bitwise_xor_",
    ast.Pow: "pow_",
    ast.FloorDiv: "floor_divide_",
}
"""Operators → what they are on tensors in place."""
PURE = frozenset({"size", "dim", "numel", "len", "int", "min", "max", "item", "long", "bool", "abs", "float"})
"""Functions that may be called twice."""


def spelled_out(statement: ast.AugAssign, torch_name: str | None, where: str) -> list[ast.stmt]:
    """The statement as torch.jit computes it as Python does; torch_name: what torch is called there.

    CaptureError: where it has no such form, as the place of which `where` is given.
    """
    if isinstance(statement.op, ast.MatMult):  # tensors have no in-place form of it in Python either
        return [_assigned(statement)]
    method = METHODS.get(type(statement.op))
    if method is None:
        return [statement]
    if torch_name is None or _calls(statement.target):
        text = ast.unparse(statement)[:80]
        raise CaptureError(
            [f"torch.jit computes {text!r} otherwise than Python: write {_fix(statement, method)}{where}"]
        )
    in_place = ast.Expr(ast.Call(ast.Attribute(_loaded(statement.target), method, ast.Load()), [statement.value], []))
    plain = _assigned(statement)
    if not isinstance(statement.target, ast.Subscript):
        return [_where_tensor(statement.target, torch_name, [in_place], [plain])]
    entry = _where_tensor(statement.target, torch_name, [in_place], [plain])
    return [_where_tensor(statement.target.value, torch_name, [plain], [entry])]


def _fix(statement: ast.AugAssign, method: str) -> str:
    target = ast.unparse(statement.target)
    if not isinstance(statement.target, ast.Subscript):
        return f"`{target}.{method}(…)`"
    value = ast.unparse(ast.BinOp(_loaded(statement.target), statement.op, statement.value))
    return f"`{target} = {value}`, with its index in a variable"


def _assigned(statement: ast.AugAssign) -> ast.stmt:
    """x = x & y, for x &= y."""
    value = ast.BinOp(_loaded(statement.target), statement.op, statement.value)
    return ast.Assign([statement.target], value)


def _where_tensor(target: ast.expr, torch_name: str, then: list[ast.stmt], orelse: list[ast.stmt]) -> ast.stmt:
    """torch.jit knows the type, and compiles the side that it has alone."""
    kind = ast.Attribute(ast.Name(torch_name, ast.Load()), "Tensor", ast.Load())
    test = ast.Call(ast.Name("isinstance", ast.Load()), [_loaded(target), kind], [])
    return ast.If(test, copy.deepcopy(then), copy.deepcopy(orelse))


def _loaded(target: ast.expr) -> ast.expr:
    made = copy.deepcopy(target)
    made.ctx = ast.Load()  # type: ignore[attr-defined]
    return made


def _calls(target: ast.expr) -> bool:
    """Whether a target calls what may not be called twice."""
    calls = (n for n in ast.walk(target) if isinstance(n, (ast.Call, ast.NamedExpr, ast.Await, ast.Yield)))
    return any(
        not isinstance(n, ast.Call) or getattr(n.func, "attr", getattr(n.func, "id", "")) not in PURE for n in calls
    )
