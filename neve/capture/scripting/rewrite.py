"""Python that torch.jit's compiler does not take, said in the way that it does.

Only what has the same meaning is rewritten: Python values from outside a function (constants while it runs, as they are
for a trace) become literals; arguments, and variables that start as empty containers, get the types that they had in
Python. Lines stay what they are. All else is left for torch.jit to refuse, and for `explain`.
"""

from __future__ import annotations

import ast
import linecache
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import CodeType, FunctionType, ModuleType
from typing import Any, TypeVar

import numpy as np
import torch
from torch import nn

from neve.capture import diagnose
from neve.capture.hidden import is_users
from neve.capture.scripting.arguments import name_arguments
from neve.capture.scripting.constants import MAX_ITEMS, codes, is_plain, plain_attribute, written
from neve.capture.scripting.inline import inline_lambdas
from neve.capture.scripting.observe import Observations, Seen
from neve.capture.scripting.statements import Simplifier
from neve.capture.scripting.unroll import BUILTINS, NOTHING, Unroller, bound, rename, value_of
from neve.capture.surroundings import false_in_eager

N = TypeVar("N", bound=ast.AST)
INT64 = range(-(2**63), 2**63)
GRADIENTS = (torch.no_grad, torch.enable_grad, torch.inference_mode, torch.set_grad_enabled)
KEPT_MODULES = frozenset({"torch", "math"})
"""Modules whose attributes torch.jit knows."""


@dataclass
class Known:
    """What the model did in Python, and its modules as they were before: id of a module that ran → that module.

    last: file and line of the function that was parsed last; numpy: the lines in it that name something of numpy;
    given: what classes have got for a while; aliases: the names of methods of base classes; modules: those that ran;
    rewritten: what functions became;
    assumed: attributes that were taken for constants, with file and line and whether they are lists; stored, exposed:
    attributes that the code writes, and lists that it may write in.
    """

    observations: Observations = field(default_factory=dict)
    before: Mapping[int, nn.Module] = field(default_factory=dict)
    last: tuple[str, int] | None = None
    numpy: list[int] = field(default_factory=list)
    given: list[tuple[type, str]] = field(default_factory=list)
    aliases: dict[CodeType, str] = field(default_factory=dict)
    modules: Sequence[nn.Module] = ()
    rewritten: dict[CodeType, ast.FunctionDef] = field(default_factory=dict)
    assumed: dict[str, tuple[str, int, bool]] = field(default_factory=dict)
    stored: set[str] = field(default_factory=set)
    exposed: set[str] = field(default_factory=set)

    def owners(self, code: CodeType) -> list[nn.Module]:
        """The modules that a function is a method of, also those for which it did not run."""
        kinds = {type(m) for m in self.observations.get(code, Seen()).owners.values()}
        return [m for m in self.modules if type(m) in kinds or code in codes(type(m))]

    def alias(self, function: FunctionType) -> str:
        """A name for a method of a base class that no other has."""
        return self.aliases.setdefault(function.__code__, f"_super_{len(self.aliases)}_{function.__name__}")

    def give(self, cls: type, name: str, function: FunctionType) -> None:
        """Let a class have a method under another name, until `take_back`."""
        if name not in vars(cls):
            made = FunctionType(
                function.__code__, function.__globals__, name, function.__defaults__, function.__closure__
            )
            made.__kwdefaults__, made.__annotations__ = function.__kwdefaults__, function.__annotations__
            setattr(cls, name, made)
            self.given.append((cls, name))

    def take_back(self) -> None:
        while self.given:
            delattr(*self.given.pop())


def parser(parse: Callable[[Any], Any], known: Known) -> Callable[[Any], Any]:
    """torch.jit's parser of functions, with what it parsed rewritten."""

    def parse_rewritten(fn: Any) -> Any:
        parsed = parse(fn)
        code = getattr(fn, "__code__", None)
        if code is not None:
            known.last, known.numpy = (parsed.filename or code.co_filename, parsed.file_lineno), []
            for found, more in zip((known.stored, known.exposed), written(parsed.ast), strict=True):
                found |= more
            known.rewritten[code] = parsed.ast.body[0]
            _Rewriter(fn, known, parsed.file_lineno - 1).function(parsed.ast.body[0], "# type:" in parsed.source)
        return parsed

    return parse_rewritten


def literal(value: Any, torch_name: str | None, containers: bool = False) -> ast.expr | None:
    """The expression of a plain value; None if there is none. torch_name: what torch is called where it will stand."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, (bool, str)) or (type(value) is int and value in INT64):
        return _signed(value) if type(value) is int else ast.Constant(value)
    if type(value) is float:
        return _signed(value) if math.isfinite(value) else _call(ast.Name("float", ast.Load()), str(value))
    if isinstance(value, torch.device) and torch_name:
        return _call(ast.Attribute(ast.Name(torch_name, ast.Load()), "device", ast.Load()), str(value))
    if isinstance(value, torch.dtype) and torch_name:
        name = str(value).removeprefix("torch.")
        return ast.Attribute(ast.Name(torch_name, ast.Load()), name, ast.Load())
    if type(value) is tuple or (containers and type(value) in (list, set, frozenset)):
        items = [literal(v, torch_name, containers) for v in (value if type(value) is tuple else list(value))]
        whole = [i for i in items if i is not None]
        if len(whole) < len(items) or not items or len(items) > MAX_ITEMS:
            return None
        return ast.Tuple(whole, ast.Load()) if type(value) is tuple else ast.List(whole, ast.Load())
    if containers and type(value) is dict and 0 < len(value) <= MAX_ITEMS:
        keys, values = ([literal(v, torch_name) for v in part] for part in (value.keys(), value.values()))
        if None not in keys and None not in values:
            return ast.Dict(keys, [v for v in values if v is not None])
    return None


def _signed(value: float) -> ast.expr:
    return ast.Constant(value) if value >= 0 else ast.UnaryOp(ast.USub(), ast.Constant(-value))


def _call(function: ast.expr, text: str) -> ast.expr:
    return ast.Call(function, [ast.Constant(text)], [])


class _Rewriter(ast.NodeTransformer):
    def __init__(self, fn: Any, known: Known, shift: int) -> None:
        code = fn.__code__
        self.known, self.shift, self.before = known, shift, known.before
        self.seen = known.observations.get(code, Seen())
        self.owners = known.owners(code)
        self.local = {*code.co_varnames, *code.co_cellvars}
        cells = zip(code.co_freevars, getattr(fn, "__closure__", None) or (), strict=False)
        self.outer = {**fn.__globals__, **{name: cell.cell_contents for name, cell in cells if _filled(cell)}}
        self.theirs = is_users(code.co_filename)  # torch's own modules are written for torch.jit
        self.usual = not (BUILTINS & {*self.local, *self.outer})
        self.torch_name = next((k for k, v in self.outer.items() if v is torch and k not in self.local), None)
        names = code.co_varnames[: code.co_argcount]
        self.self_name = names[0] if names and (self.owners or names[0] == "self") else None

    # Signature.

    def function(self, node: ast.FunctionDef, has_comment: bool) -> None:
        """Rewrite a function in place."""
        args = node.args
        self.local |= bound(node)
        if self.seen.owners and self.self_name != "self" and "self" not in self.local:
            rename(node, self.self_name, "self")  # a hook: torch.jit knows the module by this name alone
            self.self_name = "self"
        if not has_comment:
            name_arguments(node, self.seen, {*self.local, *self.outer})
        Simplifier(node, {*self.local, *self.outer}, self.torch_name, self._line)
        inline_lambdas(node)
        self.local |= bound(node)
        if self.usual:
            Unroller(node, self._value, self._modules)
        if not has_comment:
            for arg, default in _with_defaults(args):
                self._annotate(arg, default)
        if args.kwonlyargs and not args.vararg:
            args.args, args.kwonlyargs, args.kw_defaults = [*args.args, *args.kwonlyargs], [], []
        self.generic_visit(ast.Module(node.body, []))

    def _line(self, line: int) -> str:
        """A line of the function as the end of a message."""
        file, line = (self.known.last or ("", 0))[0], line + self.shift
        return diagnose.where("", (file, line, linecache.getline(file, line).strip()))

    def _annotate(self, arg: ast.arg, default: ast.expr | None) -> None:
        kind = self.seen.argument(arg.arg)
        if arg.annotation is not None or arg.arg == self.self_name or kind is None:
            return
        if isinstance(default, ast.Constant) and default.value is None and kind != "None":
            kind = kind if kind.startswith("Optional") else f"Optional[{kind}]"
        if kind != "Tensor":
            arg.annotation = _at(arg, ast.parse(kind, mode="eval").body)

    # Values from outside.

    def visit_Name(self, node: ast.Name) -> ast.AST:
        return self._constant(node) or node

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        made: ast.expr | None = self._constant(node)
        if made is not None:
            return made
        chain = _chain(node)
        if chain and getattr(self.outer.get(chain[0]), "__name__", "") == "numpy" and chain[0] not in self.local:
            self.known.numpy.append(node.lineno + self.shift)
        self.generic_visit(node)
        return node

    def _constant(self, node: ast.expr, containers: bool = False) -> ast.expr | None:
        """The literal for a name, or dotted name, of a Python value from outside of the function."""
        chain = _chain(node)
        if not chain or not isinstance(getattr(node, "ctx", None), ast.Load):
            return None
        if chain[0] == self.self_name:
            made = self._own(chain[1:], containers)
        elif chain[0] in self.outer and chain[0] not in self.local:
            made = self._foreign(chain, containers)
        else:
            made = None
        return _at(node, made) if made is not None else None

    def _foreign(self, chain: Sequence[str], containers: bool) -> ast.expr | None:
        value = self.outer[chain[0]]
        if isinstance(value, ModuleType) and value.__name__ in KEPT_MODULES:
            return None
        return literal(_follow(value, chain[1:]), self.torch_name, containers) if _is_data(value) else None

    def _own(self, chain: Sequence[str], containers: bool) -> ast.expr | None:
        """Of a value that the modules hold, torch.jit cannot, and the model does not write."""
        found: list[Any] = []
        for owner in self.owners:
            if id(owner) not in self.before:
                return None
            values = [_held(o, chain) for o in (self.before[id(owner)], owner)]
            found += values
        texts = {ast.dump(x) if (x := literal(v, self.torch_name, containers)) else "" for v in found}
        return literal(found[0], self.torch_name, containers) if len(texts) == 1 and "" not in texts else None

    def _value(self, node: ast.expr) -> Any:
        """The plain value of a name from outside or an attribute that stays; how many modules len() gives."""
        if isinstance(node, ast.Call):
            count = self._modules(node.args[0]) if _called(node) == "len" and len(node.args) == 1 else None
            return NOTHING if count is None else count
        chain = _chain(node)
        if not chain or not isinstance(getattr(node, "ctx", None), ast.Load):
            return NOTHING
        if chain[0] == self.self_name and len(chain) > 1:
            pairs = [plain_attribute(o, chain[1:]) for m in self.owners for o in (self.before.get(id(m)), m)]
            if not pairs or pairs[0] is NOTHING or any(repr(p) != repr(pairs[0]) for p in pairs):
                return NOTHING
            place = ((self.known.last or ("", 0))[0], node.lineno + self.shift, isinstance(pairs[0], list))
            self.known.assumed.update(dict.fromkeys(chain[1:], place))
            return pairs[0]
        if chain[0] in self.outer and chain[0] not in self.local:
            value = _follow(self.outer[chain[0]], chain[1:])
            return value if is_plain(value) else NOTHING
        return NOTHING

    def _modules(self, node: ast.expr) -> int | None:
        """How many modules an nn.ModuleList or nn.Sequential of the module has; None if it is none."""
        chain = _chain(node)
        if len(chain) < 2 or chain[0] != self.self_name:
            return None
        found = [_follow(m, chain[1:]) for m in self.owners]
        lists = [len(m) for m in found if isinstance(m, (nn.ModuleList, nn.Sequential))]
        return lists[0] if len(set(lists)) == 1 and len(lists) == len(found) else None

    # Containers from outside, where they are only read.

    def _read(self, node: ast.expr) -> ast.expr:
        return self._constant(node, containers=True) or node

    def visit_For(self, node: ast.For) -> ast.AST:
        node.iter = self._read(node.iter)
        return self.generic_visit(node)

    def visit_comprehension(self, node: ast.comprehension) -> ast.AST:
        node.iter = self._read(node.iter)
        return self.generic_visit(node)

    def visit_Subscript(self, node: ast.Subscript) -> ast.AST:
        if isinstance(node.ctx, ast.Load):
            if self._modules(node.value) is not None:
                node.slice = self._folded(node.slice)
            node.value = self._read(node.value)
        return self.generic_visit(node)

    def _folded(self, node: ast.expr) -> ast.expr:
        """The literal of what names an attribute or a module, if it is known."""
        if isinstance(node, (ast.Constant, ast.Slice)):
            return node
        made = literal(value_of(node, self._value), None) if self.usual else None
        return _at(node, made) if made is not None else node

    def visit_Compare(self, node: ast.Compare) -> ast.AST:
        for k, op in enumerate(node.ops):
            if isinstance(op, (ast.In, ast.NotIn)):
                right = self._read(node.comparators[k])
                if isinstance(right, (ast.Set, ast.Tuple)):
                    right = _at(right, ast.List(right.elts, ast.Load()))
                node.comparators[k] = right
        return self.generic_visit(node)

    # What has no effect without gradients, and calls that have a plain result.

    def visit_With(self, node: ast.With) -> Any:
        self.generic_visit(node)
        return node.body if all(self._is_idle(item) for item in node.items) else node

    def _is_idle(self, item: ast.withitem) -> bool:
        call = item.context_expr
        if item.optional_vars is not None or not isinstance(call, ast.Call):
            return False
        value = self._outside(call.func)
        off = any(k.arg == "enabled" and isinstance(k.value, ast.Constant) and not k.value.value for k in call.keywords)
        return any(value is g for g in GRADIENTS) or (value is torch.autocast and off)

    def _outside(self, node: ast.expr) -> Any:
        """What a dotted name from outside stands for."""
        chain = _chain(node)
        outer = chain and chain[0] in self.outer and chain[0] not in self.local
        return _follow(self.outer[chain[0]], chain[1:]) if outer else NOTHING

    def visit_Call(self, node: ast.Call) -> Any:
        match node.func:
            case ast.Attribute(value=ast.Call(func=ast.Name(id="super")) as call, attr=name):
                node.func = self._inherited(call, name) or node.func
            case ast.Name(id="getattr" | "hasattr") if len(node.args) > 1:
                node.args[1] = self._folded(node.args[1])
        self.generic_visit(node)
        function = self._outside(node.func)
        if self.theirs and any(function is f for f in false_in_eager()):
            return _at(node, ast.Constant(False))
        if function is torch.Tensor and isinstance(node.func, ast.Attribute) and isinstance(node.args[0], ast.List):
            dtype = literal(torch.get_default_dtype(), self.torch_name)
            node.func.attr, node.keywords = "tensor", [ast.keyword("dtype", dtype)] if dtype else []
            return ast.fix_missing_locations(node)
        pure = isinstance(function, np.ufunc) or (isinstance(function, type) and issubclass(function, np.generic))
        return (self._computed(node, function) if pure else None) or node

    def _computed(self, node: ast.Call, function: Any) -> ast.expr | None:
        """The result of a function of numpy on literals."""
        try:
            value = function(
                *map(ast.literal_eval, node.args), **{str(k.arg): ast.literal_eval(k.value) for k in node.keywords}
            )
        except Exception:
            return None
        made = literal(value, self.torch_name)
        return _at(node, made) if made is not None else None

    # Methods of base classes, which torch.jit finds by another name.

    def _inherited(self, call: ast.Call, name: str) -> ast.expr | None:
        """super().name as a method of the class itself."""
        below = self._outside(call.args[0]) if call.args else self.outer.get("__class__")
        found = {_method_above(type(owner), below, name) for owner in self.owners}
        if len(found) != 1 or None in found or self.self_name is None:
            return None
        (function,) = found
        assert isinstance(function, FunctionType)
        alias = self.known.alias(function)
        for owner in self.owners:
            self.known.give(type(owner), alias, function)
        found_as: ast.expr = _at(call, ast.Attribute(ast.Name(self.self_name, ast.Load()), alias, ast.Load()))
        return found_as

    # Variables.

    def visit_Assign(self, node: ast.Assign) -> ast.AST:
        self.generic_visit(node)
        target = node.targets[0]
        if len(node.targets) > 1 or not isinstance(target, ast.Name) or not _needs_type(node.value):
            return node
        kind = self.seen.variable(target.id)
        if kind is None or not kind.startswith(("List", "Dict")) or kind == "List[Tensor]":
            return node
        declared = ast.AnnAssign(target, _at(target, ast.parse(kind, mode="eval").body), node.value, 1)
        return ast.fix_missing_locations(ast.copy_location(declared, node))

    # Messages, whose wording may change.

    def visit_Raise(self, node: ast.Raise) -> ast.AST:
        return self.generic_visit(_plain_text(node))

    def visit_Assert(self, node: ast.Assert) -> ast.AST:
        if node.msg is not None:
            node.msg = _plain_text(node.msg)
        return self.generic_visit(node)

    def visit_Expr(self, node: ast.Expr) -> ast.AST:
        call = node.value
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "print":
            _plain_text(node)
        return self.generic_visit(node)


def _method_above(cls: type, below: Any, name: str) -> FunctionType | None:
    """The method that super() in a method of `below` finds, for an object of cls."""
    mro = cls.__mro__
    above = mro[mro.index(below) + 1 :] if below in mro else ()
    found = next((vars(c)[name] for c in above if name in vars(c)), None)
    return found if isinstance(found, FunctionType) else None


def _plain_text(node: N) -> N:
    """The node with the f-strings in it without formats and conversions, which torch.jit does not know."""
    for part in ast.walk(node):
        if isinstance(part, ast.FormattedValue):
            part.format_spec, part.conversion = None, -1
    return node


def _with_defaults(args: ast.arguments) -> list[tuple[ast.arg, ast.expr | None]]:
    positional = [*args.posonlyargs, *args.args]
    defaults: list[ast.expr | None] = [None] * (len(positional) - len(args.defaults))
    return [
        *zip(positional, [*defaults, *args.defaults], strict=True),
        *zip(args.kwonlyargs, args.kw_defaults, strict=True),
    ]


def _needs_type(value: ast.expr) -> bool:
    """Whether torch.jit needs the type: of [], {}, list(), dict() and x.tolist()."""
    match value:
        case ast.List(elts=[]) | ast.Dict(keys=[]):
            return True
        case ast.Call(func=ast.Name(id="list" | "dict"), args=[], keywords=[]):
            return True
        case ast.Call(func=ast.Attribute(attr="tolist")):
            return True
    return False


def _chain(node: ast.AST) -> list[str]:
    """The parts of a dotted name; none if it is something else."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return [node.id, *reversed(parts)] if isinstance(node, ast.Name) else []


def _called(node: ast.Call) -> str:
    return node.func.id if isinstance(node.func, ast.Name) else ""


def _follow(value: Any, chain: Sequence[str]) -> Any:
    for name in chain:
        value = getattr(value, name, NOTHING)
    return value


def _is_data(value: Any) -> bool:
    return not isinstance(value, (nn.Module, torch.Tensor)) and not callable(value)


def _held(module: Any, chain: Sequence[str]) -> Any:
    """What an attribute chain of a module gives, if torch.jit cannot hold it; else nothing."""
    for k, name in enumerate(chain):
        value = getattr(module, name, NOTHING)
        if isinstance(module, torch.jit.ScriptModule) or isinstance(getattr(type(module), name, None), property):
            return NOTHING
        if isinstance(value, nn.Module):
            module = value
            continue
        known = name in vars(module) and torch._C._jit_try_infer_type(value).success()
        return _follow(value, chain[k + 1 :]) if not known and _is_data(value) else NOTHING
    return NOTHING


def _filled(cell: Any) -> bool:
    try:
        return cell.cell_contents is not None or True
    except ValueError:
        return False


def _at(place: ast.AST, node: Any) -> Any:
    """The node with the place of another, and so have all parts that have none."""
    return ast.fix_missing_locations(ast.copy_location(node, place))
