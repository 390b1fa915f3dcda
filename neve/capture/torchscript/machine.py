"""The interpreter of TorchScript's code: statements and expressions, on the values of values.py, recorded on a tape.

The code of an archive is what torch's compiler wrote from the user's: no early returns, no break or continue, and
variables that are set before the loops that change them. Anything that is not in this language is refused.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from neve.capture.torchscript.branch import branch
from neve.capture.torchscript.builtins import call_builtin, call_torch
from neve.capture.torchscript.containers import bounded, key_of
from neve.capture.torchscript.control import condition, same, size_tensor
from neve.capture.torchscript.lines import is_torch
from neve.capture.torchscript.live import unread
from neve.capture.torchscript.pickles import Member, Obj, Unsupported
from neve.capture.torchscript.source import Class, Function, Sources
from neve.capture.torchscript.tape import Recorder
from neve.capture.torchscript.types import is_of_type
from neve.capture.torchscript.unroll import for_, while_
from neve.capture.torchscript.values import (
    UNINITIALIZED,
    Bound,
    Dim,
    Forked,
    Heap,
    Named,
    Num,
    Place,
    Refusal,
    describe,
)

MAX_CALLS = 150
MAX_STATEMENTS = 1_000_000


@dataclass
class Frame:
    """One call of a function."""

    function: Function
    locals: dict[str, Any] = field(default_factory=dict)
    at: ast.stmt | ast.expr | None = None


TOLIST = "tolist() gives Python numbers that only the run knows: use the elements of the tensor itself (y[0])"


class Path(str):
    """A dotted name that is no value yet: torch.relu, ops.prim.dtype, __torch__.torch.nn.functional.relu."""

    __slots__ = ()


class Machine:
    """Interprets one method. root is the model; constants are those that its code names. reads: (id of an object, name)
    → where its attribute is read first.
    """

    def __init__(self, sources: Sources, version: int, root: Obj, constants: Sequence[Any], tape: Recorder) -> None:
        self.sources, self.version, self.root, self.constants, self.tape = sources, version, root, constants, tape
        self.heap = Heap(tape)
        self.frames: list[Frame] = []
        self.statements = self.rounds = 0
        self.pinned: list[Any] = []
        self.reads: dict[tuple[int, str], Place | None] = {}
        self._modules = _module_paths(root)

    def reachable(self) -> dict[int, Any]:
        """Every list, dict and object that the running code could get at, by id."""
        found: dict[int, Any] = {}
        stack: list[Any] = [self.root, *(v for f in self.frames for v in f.locals.values()), *self.pinned]
        while stack:
            value = stack.pop()
            if isinstance(value, (list, dict, Obj)):
                if id(value) in found:
                    continue
                found[id(value)] = value
            if isinstance(value, Obj):
                stack.extend(value.attrs.values())
            elif isinstance(value, dict):
                stack.extend(value.values())
            elif isinstance(value, (list, tuple)):
                stack.extend(value)
            elif isinstance(value, Named):
                stack.extend(value.items)
            elif isinstance(value, Bound):
                stack.append(value.self)
        return found

    def place(self) -> Place:
        """What is running: the innermost module, and the innermost line outside of torch, if there is one."""
        places = [self.sources.place(f.function.file, f.at) for f in reversed(self.frames) if f.at is not None]
        own = [p for p in places if not is_torch(p[0])]
        user = next((p for p in own if not p[0].startswith("code/")), (own or places)[0])
        owners = (f.locals.get(f.function.parameters[0].arg) for f in reversed(self.frames) if f.function.parameters)
        return Place(next((self._modules[id(o)] for o in owners if id(o) in self._modules), ""), *user)

    # Calls.

    def run(self, function: Function, owner: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        """Call a method as Python does: with the module's forward hooks around forward."""
        cls = self.sources.cls(owner.cls)
        if function is not cls.methods.get("forward"):
            return self.call(function, [owner, *args], kwargs)
        for hook in cls.hooks("pre_hooks"):
            new = self.call(hook, [owner, tuple(args)], {})
            args = args if new is None else new if isinstance(new, tuple) else (new,)
        result = self.call(function, [owner, *args], kwargs)
        for hook in cls.hooks("hooks"):
            new = self.call(hook, [owner, tuple(args), result], {})
            result = result if new is None else new
        return result

    def call_method(self, obj: Any, name: str, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        """Call a method of an object of the archive."""
        if name == "tolist":
            raise Refusal(TOLIST)
        if not isinstance(obj, Obj):
            raise Refusal(f"{describe(obj)} has no method {name!r}")
        method = self.sources.cls(obj.cls).methods.get(name)
        if method is None:
            raise Refusal(f"the class {obj.cls} has no method {name!r}")
        return self.call(method, [obj, *args], kwargs)

    def call(self, function: Function, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        """Call a function of the archive's code."""
        if len(self.frames) > MAX_CALLS:
            raise Refusal(f"calls are nested more than {MAX_CALLS} deep")
        frame = Frame(function)
        names = [p.arg for p in function.parameters]
        if len(args) > len(names):
            raise Refusal(f"{function.name} takes {len(names)} arguments, got {len(args)}")
        frame.locals.update(zip(names, args, strict=False))
        frame.locals.update(kwargs)
        self.frames.append(frame)
        outer = self.tape.place
        try:
            defaults = function.node.args.defaults
            for name, default in zip(names[len(names) - len(defaults) :], defaults, strict=True):
                if name not in frame.locals:
                    frame.locals[name] = self.evaluate(default)
            missing = [n for n in names if n not in frame.locals]
            if missing:
                raise Refusal(f"{function.name} misses the argument {missing[0]!r}")
            returned = self.block(function.node.body)
            return returned[0] if returned else None
        finally:
            self.frames.pop()
            self.tape.place = outer

    # Statements.

    def block(self, body: Sequence[ast.stmt]) -> tuple[Any] | None:
        """Run statements; a tuple of what is returned, None if nothing is."""
        frame = self.frames[-1]
        outer = frame.at, self.tape.place
        for statement in body:
            frame.at = statement
            self.tape.place = self.place()
            try:
                returned = self.statement(statement)
            except Refusal as error:
                error.place = error.place or self.place()
                raise
            if returned is not None:
                return returned
        frame.at, self.tape.place = outer
        return None

    def statement(self, s: ast.stmt) -> tuple[Any] | None:
        self.statements += 1
        if self.statements > MAX_STATEMENTS:
            raise Refusal(f"the method takes more than {MAX_STATEMENTS} statements once its static loops are unrolled")
        match s:
            case ast.Assign(targets=[target], value=value):
                self.assign(target, self.evaluate(value))
            case ast.AnnAssign(target=target, value=value) if value is not None:
                self.assign(target, self.evaluate(value))
            case ast.Expr(value=value):
                self.evaluate(value)
            case ast.Pass():
                pass
            case ast.FunctionDef(name=name, args=ast.arguments(args=[])):
                self.frames[-1].locals[name] = Forked(s)
            case ast.Return(value=value):
                return (self.evaluate(value) if value is not None else None,)
            case ast.If():
                return self.if_(s)
            case ast.While():
                while_(self, s)
            case ast.With(items=[ast.withitem(context_expr=manager, optional_vars=target)], body=body):
                return self.with_(self.evaluate(manager), target, body)
            case ast.For(target=ast.Name(), iter=ast.Call(func=ast.Name(id="range"), args=args)):
                for_(self, s, [self.evaluate(a) for a in args])
            case _:
                raise Refusal(f"the statement {ast.unparse(s)[:60]!r} is not TorchScript")
        return None

    def assign(self, target: ast.expr, value: Any) -> None:
        match target:
            case ast.Name(id=name):
                self.frames[-1].locals[name] = value
            case ast.Attribute(value=owner, attr=name):
                self.set_attribute(self.evaluate(owner), name, value)
            case ast.Tuple(elts=parts) | ast.List(elts=parts):
                items = value.items if isinstance(value, Named) else value
                if not isinstance(items, (tuple, list)) or len(items) != len(parts):
                    raise Refusal(f"{describe(value)} cannot be unpacked into {len(parts)} variables")
                for part, item in zip(parts, items, strict=True):
                    self.assign(part, item)
            case _:
                raise Refusal(f"{ast.unparse(target)[:60]!r} cannot be assigned to")

    def set_attribute(self, obj: Any, name: str, value: Any) -> None:
        if not isinstance(obj, Obj):
            raise Refusal(f"{describe(obj)} has no attribute {name!r} to set")
        self.heap.touch(obj)
        obj.attrs[name] = value

    def if_(self, s: ast.If) -> tuple[Any] | None:
        pred, frame = condition(self, self.evaluate(s.test)), self.frames[-1]
        if isinstance(pred, bool):
            return self.block(s.body if pred else s.orelse)
        skip = unread(frame.function.node, s)
        branch(self, frame, pred, lambda: self.inner(s.body), lambda: self.inner(s.orelse), skip)
        return None

    def with_(self, manager: Any, target: ast.expr | None, body: Sequence[ast.stmt]) -> tuple[Any] | None:
        entered = self.call_method(manager, "__enter__", [], {})
        if target is not None:
            self.assign(target, entered)
        returned = self.block(body)
        self.call_method(manager, "__exit__", [None, None, None], {})
        return returned

    def inner(self, body: Sequence[ast.stmt]) -> None:
        """A block in which nothing may be returned."""
        if self.block(body) is not None:
            raise Refusal("a return inside a branch or loop that the inputs decide is not supported")

    def as_run_time(self, value: Dim) -> Num:
        """A size as a number of the run."""
        return Num(value.kind, size_tensor(self, value))

    # Expressions.

    def evaluate(self, e: ast.expr) -> Any:
        """The value of an expression; dotted names that are none are a Path."""
        value = self._evaluate(e)
        if self.tape.invalidated:
            self.heap.check(value)
        return value

    def _evaluate(self, e: ast.expr) -> Any:
        match e:
            case ast.Constant(value=value):
                return value
            case ast.Name(id=name):
                return self.name(name)
            case ast.Attribute(value=owner, attr=name):
                return self.attribute(self.evaluate(owner), name)
            case ast.Call():
                return self.call_expression(e)
            case ast.Tuple(elts=parts):
                return tuple(self.evaluate(p) for p in parts)
            case ast.List(elts=parts):
                return [self.evaluate(p) for p in parts]
            case ast.Dict(keys=keys, values=values):
                return {key_of(self.evaluate(k)): self.evaluate(v) for k, v in zip(keys, values, strict=True) if k}
            case ast.Subscript(value=owner, slice=index):
                return self.torch("__getitem__", [self.evaluate(owner), self.evaluate(index)], {})
            case ast.BinOp(
                left=ast.Constant(value=int() | float())
                | ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float())),
                op=ast.Add() | ast.Sub(),
                right=ast.Constant(value=complex()),
            ):  # 1.0 - 2j
                return complex(ast.literal_eval(e))
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return self.torch("neg", [self.evaluate(operand)], {})
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                return self.torch("__not__", [self.evaluate(operand)], {})
        raise Refusal(f"the expression {ast.unparse(e)[:60]!r} is not TorchScript")

    def name(self, name: str) -> Any:
        variables = self.frames[-1].locals
        if name in variables:
            return variables[name]
        if name in ("inf", "infj"):
            return math.inf
        if name in ("nan", "nanj"):
            return math.nan
        return Path(name)

    def attribute(self, owner: Any, name: str) -> Any:
        if isinstance(owner, Path):
            if owner == "CONSTANTS":
                return self.constant(name)
            cls = self.sources.find(owner)
            if isinstance(cls, Class) and name in cls.constants:
                return Member(owner, self.evaluate(cls.constants[name]))
            return Path(f"{owner}.{name}")
        if isinstance(owner, Named):
            if name in owner.fields:
                return owner.items[owner.fields.index(name)]
        elif isinstance(owner, Member) and name in ("name", "value"):
            return owner.value if name == "value" else self.member_name(owner)
        elif isinstance(owner, Obj):
            return self.object_attribute(owner, name)
        raise Refusal(f"{describe(owner)} has no attribute {name!r}")

    def object_attribute(self, obj: Obj, name: str) -> Any:
        if name == "training" and self.sources.cls(obj.cls).kind == "Module":
            return self.root.attrs.get("training") is not True and obj.attrs.get("training") is True
        if name in obj.attrs:
            self.reads.setdefault((id(obj), name), self.tape.place)
            value = obj.attrs[name]
            if isinstance(value, Unsupported):
                raise Refusal(value.reason)
            return value
        cls = self.sources.cls(obj.cls)
        if name in cls.constants:
            return self.evaluate(cls.constants[name])
        if name in cls.methods:
            return Bound(cls.methods[name], obj)
        raise Refusal(f"the {obj.cls.rpartition('.')[2]} has no attribute {name!r}")

    def member_name(self, member: Member) -> str:
        if isinstance(member.value, Num):
            raise Refusal(f"the name of a {member.cls} that the inputs decide", member.value.needs)
        members = self.sources.cls(member.cls).constants
        return next(name for name, value in members.items() if same(self.evaluate(value), member.value))

    def constant(self, name: str) -> Any:
        if not (name[:1] == "c" and name[1:].isdigit()) or int(name[1:]) >= len(self.constants):
            raise Refusal(f"the archive has no constant {name}")
        value = self.constants[int(name[1:])]
        if isinstance(value, Unsupported):
            raise Refusal(value.reason)
        return value

    def call_expression(self, e: ast.Call) -> Any:
        match e.func:
            case ast.Name(id="annotate" | "unchecked_cast") if len(e.args) == 2:
                return self.evaluate(e.args[1])
            case ast.Name(id="uninitialized"):
                return UNINITIALIZED
            case ast.Name(id="isinstance") if len(e.args) == 2:
                return is_of_type(self.evaluate(e.args[0]), e.args[1])
            case ast.Attribute(value=cls, attr="__new__"):
                return self.new(str(self.evaluate(cls)))
            case ast.Name(id="getattr") if isinstance(e.args[1], ast.Constant):
                return self.attribute(self.evaluate(e.args[0]), str(e.args[1].value))
            case ast.Attribute(value=owner_node, attr=name):
                owner = self.evaluate(owner_node)
                args, kwargs = self.arguments(e)
                self._at(e)
                if isinstance(owner, Path):
                    return self.call_path(Path(f"{owner}.{name}"), args, kwargs)
                return self.call_method(owner, name, args, kwargs)
        target = self.evaluate(e.func)
        args, kwargs = self.arguments(e)
        self._at(e)
        if isinstance(target, Path):
            return self.call_path(target, args, kwargs)
        if isinstance(target, Bound):
            return self.call(target.function, args if target.self is None else [target.self, *args], kwargs)
        raise Refusal(f"{describe(target)} is called, but is no function")

    def forked(self, forked: Forked) -> Any:
        """What a forked function returns: it is run where it is forked, which is one of the orders there could be."""
        here = self.frames[-1]
        self.frames.append(Frame(here.function, dict(here.locals)))
        try:
            returned = self.block(forked.node.body)
            return returned[0] if returned else None
        finally:
            self.frames.pop()

    def _at(self, e: ast.Call) -> None:
        self.frames[-1].at = e
        self.tape.place = self.place()

    def arguments(self, e: ast.Call) -> tuple[list[Any], dict[str, Any]]:
        args = [self.value(a) for a in e.args]
        if any(k.arg is None for k in e.keywords):
            raise Refusal("**arguments are not TorchScript")
        return args, {str(k.arg): self.value(k.value) for k in e.keywords}

    def value(self, e: ast.expr) -> Any:
        """An expression whose value is wanted; a function of the archive becomes a Bound."""
        v = self.evaluate(e)
        if isinstance(v, Path):
            found = self.sources.find(v)
            if isinstance(found, Function):
                return Bound(found)
            raise Refusal(f"there is nothing called {v}")
        return v

    def call_path(self, path: Path, args: list[Any], kwargs: dict[str, Any]) -> Any:
        if path.startswith("__torch__."):
            return self.call_archive(path, args, kwargs)
        namespace, _, name = path.rpartition(".")
        if namespace == "torch" or namespace == "ops.aten":
            return self.torch(name, args, kwargs)
        return call_builtin(self, path, args, kwargs)

    def new(self, cls: str) -> Obj:
        """An object of a class of the archive before its __init__."""
        if not isinstance(self.sources.find(cls), Class):
            raise Refusal(f"the archive has no code for {cls}")
        return Obj(cls)

    def call_archive(self, path: str, args: list[Any], kwargs: dict[str, Any]) -> Any:
        found = self.sources.find(path)
        if isinstance(found, Function):
            return self.call(found, args, kwargs)
        if not isinstance(found, Class):
            raise Refusal(f"the archive has no code for {path}")
        if found.kind == "NamedTuple":
            fields = tuple(found.types)
            items = [*args, *(kwargs[f] for f in fields[len(args) :] if f in kwargs)]
            if len(items) != len(fields):
                raise Refusal(f"{path} has {len(fields)} fields, got {len(items)}")
            return Named(path, fields, tuple(items))
        made = Obj(path)
        if "__init__" in found.methods:
            self.call(found.methods["__init__"], [made, *args], kwargs)
        return made

    def torch(self, name: str, args: list[Any], kwargs: dict[str, Any]) -> Any:
        """A function of torch, on tensors, numbers, strings or containers."""
        result = call_torch(self, name, args, kwargs)
        if isinstance(result, (str, list)):
            bounded(len(result), 0)
        return result


def _module_paths(root: Any) -> dict[int, str]:
    """id of each object in a model → its dotted path."""
    paths: dict[int, str] = {}
    stack: list[tuple[Any, str]] = [(root, "")]
    while stack:
        obj, path = stack.pop()
        if isinstance(obj, Obj) and id(obj) not in paths:
            paths[id(obj)] = path
            stack.extend((v, f"{path}.{k}".lstrip(".")) for k, v in reversed(obj.attrs.items()))
    return paths
