"""Compiled code for each form of call that a frozen module has seen, and the values that all of it shares.

Code is kept by method, types, dtypes and shapes of the arguments. What methods write and what was preserved by name is
in `values`, from where it goes into a compiled module before a call, and comes back.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from neve.errors import CaptureError, FreezeError, InputError
from neve.frozen.keys import call_key, show, value_key
from neve.frozen.snapshot import Snapshot
from neve.runtime.loader import Module
from neve.runtime.trees import flatten

LOG = logging.getLogger("neve.frozen")
MOST = 32
"""How many specialisations are kept; the least recently used goes."""
MOST_BYTES = 4 * 2**30
"""Of packed weights in all of them, but for the one in use."""

Call = tuple[tuple[Any, ...], dict[str, Any]]


@dataclass(frozen=True)
class Options:
    """How to compile: names of passes to leave out, methods to run exact passes alone on, packing made visible."""

    disable: frozenset[str] = frozenset()
    exact: frozenset[str] = frozenset()
    prepack: bool = False


@dataclass(frozen=True, eq=False)
class Code:
    """A compiled module: method → form of the call that it takes; settings is the form of what was preserved."""

    module: Module
    forms: Mapping[str, Hashable]
    settings: Hashable
    texts: Mapping[str, str]

    def takes(self, method: str, form: Hashable, args: Sequence[Any], kwargs: Mapping[str, Any], numbers: bool) -> bool:
        """Whether a call of that form fits, numbers that are fixed in the code included."""
        if self.forms.get(method) != form:
            return False
        if not numbers:
            return True
        try:
            flatten(self.module.methods[method].signature, tuple(args), dict(kwargs))
        except InputError:
            return False
        return True


class Specialisations:
    """All code of one frozen module. One call at a time; every method may be used by several threads."""

    def __init__(self, origin: Snapshot, options: Options, values: Mapping[str, Any]) -> None:
        self.origin, self.options = origin, options
        self.values = {path: own(value) for path, value in values.items()}
        self.settings = list(self.values)
        self.codes: list[Code] = []
        self.calls: dict[str, Call] = {}
        self.lock = threading.RLock()
        self._active: Code | None = None
        self.written: set[str] = set()
        self._told = False

    def now(self) -> Snapshot:
        """The model with all that was written and set since."""
        with self.lock:
            self.collect()
            other = {p: v for p, v in self.values.items() if not same(self.origin.look(p), v)}
            return self.origin.replaced(other) if other else self.origin

    def use(self, options: Options) -> None:
        """Compile in another way from now on."""
        with self.lock:
            if options != self.options:
                self.collect()
                self.options, self.codes, self._active = options, [], None

    def call(self, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        with self.lock:
            form, numbers = call_key(args, kwargs)
            code = self._ready(method, form, args, kwargs, bool(numbers))
            if code is None:
                self._tell(method, args, kwargs)
                code = self.prepare({method: (args, kwargs)})
                self._activate(code)
            try:
                return code.module.methods[method](*args, **kwargs)
            finally:
                self._take(code, self.settings)

    def prepare(self, calls: Mapping[str, Call]) -> Code:
        """Compile methods for calls like these, together."""
        plain = {m: (detached(args), detached(kwargs)) for m, (args, kwargs) in calls.items()}
        settings = self._settings_key()
        start = self._start()
        try:
            module = self._compile(start, plain)
        except CaptureError:
            for m, (args, kwargs) in plain.items():
                error = start.error_of(m, args, kwargs)
                if error is not None:
                    raise error from None
            raise
        self.calls.update(plain)
        forms = {m: call_key(*call)[0] for m, call in plain.items()}
        code = Code(module, forms, settings, {m: show(*call) for m, call in plain.items()})
        self._add(code)
        return code

    def artifact(self, methods: Sequence[str]) -> Any:
        """One artifact of all the methods, for the latest form of call of each, that starts with the values of now."""
        with self.lock:
            self.collect()
            missing = [m for m in methods if m not in self.calls]
            if missing:
                raise FreezeError(
                    f"{' and '.join(missing)} cannot be saved: the sizes of the arguments are not known before the "
                    "first call; call it once, or give example_inputs"
                )
            whole = [c for c in self.codes if set(c.forms) == set(methods)]
            if whole and not self.values:
                return whole[-1].module.artifact
            return self._compile(self.now(), {m: self.calls[m] for m in methods}).artifact

    def collect(self) -> None:
        """Bring what calls have written into `values`, where settings are after each call already."""
        if self._active is not None:
            self._take(self._active, self.written - set(self.settings))

    def _settings_key(self) -> Hashable:
        return tuple([value_key(self.values[path]) for path in self.settings])

    def _start(self) -> Snapshot:
        """The snapshot, with the values of now but for what tensors hold."""
        other = {
            path: self.values[path] for path in self.settings if changed(self.origin.look(path), self.values[path])
        }
        return self.origin.replaced(other) if other else self.origin

    def _ready(self, method: str, form: Hashable, args: Any, kwargs: Any, numbers: bool) -> Code | None:
        """The code that takes the call, with the values of now in it."""
        settings = self._settings_key()
        for code in reversed(self.codes):
            if code.settings == settings and code.takes(method, form, args, kwargs, numbers):
                try:
                    self._activate(code)
                except InputError:  # a setting that is fixed in this code
                    continue
                if code is not self.codes[-1]:
                    self.codes.remove(code)
                    self.codes.append(code)
                return code
        return None

    def _compile(self, start: Snapshot, calls: Mapping[str, Call]) -> Module:
        from neve.api import compile

        args, kwargs = calls.get("forward", (None, None))
        others = {m: {"args": a, "kwargs": k} for m, (a, k) in calls.items() if m != "forward"}
        return compile(
            start.model,
            args,
            kwargs,
            methods=others or None,
            preserved_attrs=[*(p for p in self.settings if varies(self.values[p])), *sorted(self.written)],
            optimize_numerics=not any(m in self.options.exact for m in calls),
            disable=self.options.disable,
            prepack=self.options.prepack,
        )

    def _add(self, code: Code) -> None:
        new = set(code.module.attributes) - set(self.settings) - self.written
        if new:
            self.collect()
            self.written |= new
            self.codes, self._active = [], None  # they may hold as constants what this method writes
            self.values.update({path: own(code.module.attributes[path]) for path in new})
        self.codes.append(code)
        while len(self.codes) > MOST or (len(self.codes) > 1 and self._bytes() > MOST_BYTES):
            gone = self.codes.pop(0)
            if gone is self._active:
                self.collect()
                self._active = None

    def _bytes(self) -> int:
        return sum(c.module.signature.weights_size for c in self.codes)

    def _activate(self, code: Code) -> None:
        """Put the values of now into the code: all of them if calls went through another one."""
        if self._active is code:
            self._put(code, self.settings)
            return
        self.collect()
        self._active = None
        self._put(code, list(code.module.attributes))
        self._active = code

    def _put(self, code: Code, paths: Iterable[str]) -> None:
        for path in paths:
            if path in code.module.attributes:
                code.module.attributes[path] = self.values[path]

    def _take(self, code: Code, paths: Iterable[str]) -> None:
        for path in paths:
            if path in code.module.attributes:
                self.values[path] = renewed(self.values[path], code.module.attributes[path])

    def _tell(self, method: str, args: Any, kwargs: Any) -> None:
        text = f"{method}({show(args, kwargs)})"
        if self._told or self.calls:
            LOG.info("compiling %s", text)
        else:
            LOG.warning("compiling %s: the first call does it, as no example_inputs were given", text)
        self._told = True


def varies(value: Any) -> bool:
    """Whether compiled code can read the value at each call; of others, such as strings, each gets code of its own."""
    import torch

    def plain(part: Any) -> bool:
        if isinstance(part, (list, tuple)):
            return all(map(plain, part))
        if isinstance(part, dict):
            return all(isinstance(k, str) and plain(v) for k, v in part.items())
        return part is None or isinstance(part, (torch.Tensor, bool, int, float, str))

    return plain(value) and isinstance(value, (torch.Tensor, bool, int, float, list, tuple, dict))


def changed(old: Any, new: Any) -> bool:
    """Whether values differ in more than the content of tensors."""
    numbers: tuple[list[Any], list[Any]] = ([], [])
    return value_key(old, numbers[0]) != value_key(new, numbers[1]) or numbers[0] != numbers[1]


def same(old: Any, new: Any) -> bool:
    """Whether values are equal, the content of tensors included."""
    import torch
    from torch.utils import _pytree

    if changed(old, new):
        return False
    pairs = zip(_pytree.tree_leaves(old), _pytree.tree_leaves(new), strict=True)
    return all(torch.equal(a, b) for a, b in pairs if isinstance(a, torch.Tensor))


def detached(value: Any) -> Any:
    """The value with copies of its tensors, which are plain ones without gradients."""
    import torch
    from torch.utils import _pytree

    return _pytree.tree_map(lambda x: x.detach().clone() if isinstance(x, torch.Tensor) else x, value)


def own(value: Any) -> Any:
    """A copy of an attribute's value that no one else writes to."""
    import copy

    import torch

    if isinstance(value, torch.Tensor):
        return value.detach().clone()
    if isinstance(value, (list, tuple)) and type(value) in (list, tuple):
        return type(value)(own(v) for v in value)
    if type(value) is dict:
        return {k: own(v) for k, v in value.items()}
    return copy.deepcopy(value)


def renewed(old: Any, new: Any) -> Any:
    """The new value in the tensors and containers of the old one, which callers may hold, where it fits into them."""
    import torch

    if isinstance(old, torch.Tensor) and isinstance(new, torch.Tensor) and old.shape == new.shape:
        with torch.no_grad():
            old.copy_(new)
        return old
    if type(old) is list and type(new) is list and len(old) == len(new):
        old[:] = [renewed(a, b) for a, b in zip(old, new, strict=True)]
        return old
    if type(old) is dict and type(new) is dict and old.keys() == new.keys():
        old.update({k: renewed(v, new[k]) for k, v in old.items()})
        return old
    if type(old) is tuple and type(new) is tuple and len(old) == len(new):
        return tuple(renewed(a, b) for a, b in zip(old, new, strict=True))
    return own(new)


__all__ = ["LOG", "MOST", "Code", "Options", "Specialisations"]
