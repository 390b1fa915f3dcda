"""A pickle reader for TorchScript archives: data in, data out, and nothing that a pickle says is ever called.

It knows the few opcodes that torch's own writer uses, and the few globals that stand for tensors, lists, dicts and
objects. Every other opcode or global is refused with its name. `pickle` itself is not used.
"""

from __future__ import annotations

import pickletools
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from neve.errors import CaptureError

MARK = object()
MAX_VALUES = 4_000_000
MAX_DEPTH = 200
CLASS = re.compile(r"__torch__(\.\w+)+")
DTYPES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
    "ComplexFloatStorage": torch.complex64,
    "ComplexDoubleStorage": torch.complex128,
}
QUANTIZED_STORAGE = frozenset({"QInt8Storage", "QUInt8Storage", "QInt32Storage", "QUInt4x2Storage", "QUInt2x4Storage"})
LISTS = frozenset({"build_intlist", "build_doublelist", "build_boollist", "build_tensorlist"})


@dataclass(eq=False)
class Obj:
    """An object of a TorchScript class: a module, or what a class of torch's own C++ packed (then `packed` is it)."""

    cls: str
    attrs: dict[str, Any] = field(default_factory=dict)
    packed: Any = None

    def __repr__(self) -> str:
        return f"<{self.cls}>"


@dataclass(frozen=True)
class Member:
    """A member of an enumeration of the archive. value: an int, float, str, or one of these that the run decides."""

    cls: str
    value: Any

    def __repr__(self) -> str:
        return f"{self.cls.rpartition('.')[2]}({self.value!r})"


@dataclass(frozen=True)
class Unsupported:
    """Stands for a value that neve cannot hold; using it refuses with the reason."""

    reason: str


@dataclass(frozen=True)
class _Global:
    module: str
    name: str

    @property
    def path(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass(frozen=True)
class _Storage:
    """What a persistent id names: elements of a dtype in a record of the archive."""

    key: str
    dtype: torch.dtype | None
    numel: int


class Reader:
    """Reads one pickle. storage(key) gives the bytes of a tensor record as torch storage, the same one for a key."""

    def __init__(self, name: str, storage: Callable[[str], torch.UntypedStorage]) -> None:
        self.name, self._storage = name, storage

    def read(self, data: bytes) -> Any:
        """The value in the pickle. CaptureError if it is damaged or holds anything but data."""
        try:
            return _checked(self.name, self._run(data))
        except CaptureError:
            raise
        except (ValueError, IndexError, KeyError, TypeError, OverflowError, AttributeError, RecursionError) as error:
            raise self.wrong(f"it is damaged ({type(error).__name__}: {str(error)[:100]})") from error
        except RuntimeError as error:
            raise self.wrong(f"a tensor in it is malformed: {str(error)[:100]}") from error

    def wrong(self, what: str) -> CaptureError:
        return CaptureError(f"the archive cannot be read: {self.name}: {what}")

    def _run(self, data: bytes) -> Any:
        stack: list[Any] = []
        memo: dict[Any, Any] = {}
        for count, (opcode, arg, _) in enumerate(pickletools.genops(data)):
            if count > MAX_VALUES:
                raise self.wrong(f"it has more than {MAX_VALUES} entries")
            name = opcode.name
            if name in PUSHES:
                stack.append(PUSHES[name](arg))
            elif name in ("BINPUT", "LONG_BINPUT", "PUT"):
                memo[arg] = stack[-1]
            elif name == "MEMOIZE":
                memo[len(memo)] = stack[-1]
            elif name in ("BINGET", "LONG_BINGET", "GET"):
                stack.append(memo[arg])
            elif name == "STOP":
                if len(stack) != 1:
                    raise self.wrong("it is damaged (values are left over)")
                return stack[0]
            elif name in ACTIONS:
                ACTIONS[name](self, stack)
            elif name == "GLOBAL":
                module, _, attribute = str(arg).rpartition(" ")
                stack.append(_Global(module, attribute))
            elif name not in ("PROTO", "FRAME"):
                raise self.wrong(f"the pickle opcode {name}, which torch does not write, is refused")
        raise self.wrong("it is truncated")

    # What the opcodes do.

    def to_mark(self, stack: list[Any]) -> list[Any]:
        items: list[Any] = []
        while (top := stack.pop()) is not MARK:
            items.append(top)
        items.reverse()
        return items

    def make_tuple(self, stack: list[Any]) -> None:
        stack.append(tuple(self.to_mark(stack)))

    def appends(self, stack: list[Any]) -> None:
        items = self.to_mark(stack)
        self._target(stack, list).extend(items)

    def append(self, stack: list[Any]) -> None:
        item = stack.pop()
        self._target(stack, list).append(item)

    def setitems(self, stack: list[Any]) -> None:
        items = self.to_mark(stack)
        target = self._target(stack, dict)
        for key, value in zip(items[::2], items[1::2], strict=True):
            self._set(target, key, value)

    def setitem(self, stack: list[Any]) -> None:
        value, key = stack.pop(), stack.pop()
        self._set(self._target(stack, dict), key, value)

    def _set(self, target: dict[Any, Any], key: Any, value: Any) -> None:
        if not isinstance(key, (str, int, float, bool)):
            raise self.wrong(f"a dict with a {type(key).__name__} as key")
        target[key] = value

    def _target(self, stack: list[Any], kind: type) -> Any:
        if not stack or type(stack[-1]) is not kind:
            raise self.wrong(f"it is damaged (a {kind.__name__} was expected)")
        return stack[-1]

    def newobj(self, stack: list[Any]) -> None:
        args, what = stack.pop(), stack.pop()
        if args != () or not isinstance(what, _Global) or not CLASS.fullmatch(what.path):
            raise self.wrong(f"objects of {getattr(what, 'path', type(what).__name__)} are refused")
        stack.append(Obj(what.path))

    def build(self, stack: list[Any]) -> None:
        state = stack.pop()
        obj = stack[-1]
        if not isinstance(obj, Obj) or obj.attrs or obj.packed is not None:
            raise self.wrong(f"state for a {type(obj).__name__} is refused")
        if ".torch.classes." in obj.cls:
            obj.packed = (state,) if state is None else state
        elif isinstance(state, dict) and all(isinstance(k, str) for k in state):
            obj.attrs = state
        else:
            obj.packed = state  # a class with its own __setstate__, which is in the archive's code

    def reduce(self, stack: list[Any]) -> None:
        args, what = stack.pop(), stack.pop()
        if isinstance(what, _Global) and CLASS.fullmatch(what.path) and type(args) in (int, float, str):
            stack.append(Member(what.path, args))  # torch writes no tuple here
            return
        if not isinstance(what, _Global) or not isinstance(args, tuple):
            raise self.wrong("a call of what is no function is refused")
        stack.append(self._call(what, args))

    def persistent(self, stack: list[Any]) -> None:
        tag, what, key, device, numel = stack.pop()
        if tag != "storage" or not isinstance(what, _Global) or what.module != "torch" or not isinstance(key, str):
            raise self.wrong(f"the reference {str((tag, what, key))[:80]} is refused")
        if what.name not in DTYPES and what.name not in QUANTIZED_STORAGE:
            raise self.wrong(f"a storage of the type {what.name} is refused")
        if not isinstance(device, str) or type(numel) is not int or numel < 0:
            raise self.wrong("a storage is malformed")
        stack.append(_Storage(key, DTYPES.get(what.name), numel))

    def _call(self, what: _Global, args: tuple[Any, ...]) -> Any:
        if what.module == "torch._utils":
            if what.name == "_rebuild_tensor_v2":
                return self._tensor(*args)
            if what.name in ("_rebuild_qtensor", "_rebuild_sparse_tensor", "_rebuild_sparse_csr_tensor"):
                kind = "quantized" if what.name == "_rebuild_qtensor" else "sparse"
                return Unsupported(f"the archive holds a {kind} tensor, and {kind} tensors are not supported yet")
        elif what.module == "torch.jit._pickle":
            if what.name in LISTS and len(args) == 1 and isinstance(args[0], list):
                return args[0]
            if what.name == "restore_type_tag" and len(args) == 2:
                return args[0]
        elif what.path == "torch.device" and len(args) == 1 and isinstance(args[0], str):
            return torch.device(args[0])
        elif what.path == "collections.OrderedDict" and args in ((), ([],)):
            return {}
        elif what.path == "builtins.complex":
            return Unsupported("the archive holds a complex number, and these are not supported")
        raise self.wrong(f"a call of {what.path} is refused: only tensors, containers and numbers may be in it")

    def _tensor(self, storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> Any:
        if not isinstance(storage, _Storage) or storage.dtype is None:
            return Unsupported("the archive holds a quantized tensor, and quantized tensors are not supported yet")
        whole = [offset, *size, *stride]
        if not all(type(n) is int and 0 <= n < 2**48 for n in whole) or len(size) != len(stride):
            raise self.wrong("a tensor has a malformed shape")
        numel = 1
        for n in size:
            numel *= n
        last = offset + sum((n - 1) * s for n, s in zip(size, stride, strict=True)) if numel else 0
        if numel and (last >= storage.numel or numel > MAX_EXPANSION * max(storage.numel, 2**20)):
            raise self.wrong(f"a tensor of shape {list(size)} lies outside its storage of {storage.numel} elements")
        memory = self._storage(storage.key)
        if memory.nbytes() < storage.numel * torch.empty((), dtype=storage.dtype).element_size():
            raise self.wrong(f"the record {storage.key!r} has {memory.nbytes()} bytes, too few for its tensors")
        return torch.empty(0, dtype=storage.dtype).set_(memory, offset, tuple(size), tuple(stride))


MAX_EXPANSION = 64
"""How many times larger than its storage an expanded tensor may be."""

PUSHES: Mapping[str, Callable[[Any], Any]] = {
    "NONE": lambda _: None,
    "NEWTRUE": lambda _: True,
    "NEWFALSE": lambda _: False,
    "MARK": lambda _: MARK,
    "EMPTY_LIST": lambda _: [],
    "EMPTY_DICT": lambda _: {},
    "EMPTY_TUPLE": lambda _: (),
} | {
    name: (lambda arg: arg)
    for name in (
        "BININT", "BININT1", "BININT2", "LONG1", "LONG4", "BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8",
        "SHORT_BINSTRING", "BINSTRING",
    )
}  # fmt: skip

ACTIONS: Mapping[str, Callable[[Reader, list[Any]], None]] = {
    "TUPLE": Reader.make_tuple,
    "TUPLE1": lambda _, s: s.append((s.pop(),)),
    "TUPLE2": lambda _, s: s.append((s.pop(-2), s.pop())),
    "TUPLE3": lambda _, s: s.append((s.pop(-3), s.pop(-2), s.pop())),
    "APPEND": Reader.append,
    "APPENDS": Reader.appends,
    "SETITEM": Reader.setitem,
    "SETITEMS": Reader.setitems,
    "NEWOBJ": Reader.newobj,
    "BUILD": Reader.build,
    "REDUCE": Reader.reduce,
    "BINPERSID": Reader.persistent,
}


def _checked(name: str, root: Any) -> Any:
    """root, if it has no cycle, is no deeper than MAX_DEPTH, and holds no marks or globals."""
    done: set[int] = set()
    open_: set[int] = set()

    def visit(value: Any, depth: int) -> None:
        if value is MARK or isinstance(value, (_Global, _Storage)):
            raise CaptureError(f"the archive cannot be read: {name}: it is damaged (a value is incomplete)")
        parts = children(value)
        if parts is None or id(value) in done:
            return
        if id(value) in open_:
            raise CaptureError(f"the archive cannot be read: {name}: a value contains itself")
        if depth > MAX_DEPTH:
            raise CaptureError(f"the archive cannot be read: {name}: values are nested more than {MAX_DEPTH} deep")
        open_.add(id(value))
        for part in parts:
            visit(part, depth + 1)
        open_.discard(id(value))
        done.add(id(value))

    visit(root, 0)
    return root


def children(value: Any) -> list[Any] | None:
    """What a container or an object holds; None for anything else."""
    if isinstance(value, Obj):
        return [*value.attrs.values(), value.packed]
    if isinstance(value, dict):
        return list(value.values())
    return list(value) if isinstance(value, (list, tuple)) else None
