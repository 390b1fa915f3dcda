"""Compiled code for each form of call that a frozen module has seen, and the values that all of it shares.

Code is kept by method, types, dtypes and shapes of the arguments. What methods write and what was preserved by name is
in `values`, from where it goes into a compiled module before a call, and comes back.
"""

from __future__ import annotations

import copy
import logging
import threading
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from neve.errors import CaptureError, FreezeError, InputError, NeveError, VerifyError
from neve.frozen.keys import NUMBERS, call_key, show, value_key
from neve.frozen.snapshot import Part, Snapshot, entry, set_entry
from neve.runtime.loader import Module
from neve.runtime.trees import flatten
from neve.trees import leaves

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
    """A compiled module: method → form of the call that it takes.

    settings is the form of what was preserved, numbers the numbers in it if the code has them as constants.
    """

    module: Module
    forms: Mapping[str, Hashable]
    settings: Hashable
    numbers: Sequence[Any] | None
    texts: Mapping[str, str]

    @property
    def bound(self) -> bool:
        """Whether it has state that is in no attribute, since an attribute has another form at times: it stays here."""
        shown = {i for tree in self.module.signature.attributes.values() for i in leaves(tree)}
        return len(shown) < len(self.module.signature.state)

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
        self.values: dict[str, Any] = own(dict(values))  # at once: what shares memory goes on sharing it
        self.settings = list(self.values)
        self.codes: list[Code] = []
        self.calls: dict[str, Call] = {}
        self.lock = threading.RLock()
        self._active: Code | None = None
        self._bound: Code | None = None
        self.written: set[str] = set()
        self._told = False

    def now(self) -> Snapshot:
        """The model with all that was written and set since."""
        with self.lock:
            self._refuse_bound("it cannot be saved or frozen again")
            self.collect()
            other = {p: v for p, v in self.values.items() if not same(self.origin.look(p), v)}
            return self.origin.replaced(other) if other else self.origin

    def use(self, options: Options) -> None:
        """Compile in another way from now on."""
        with self.lock:
            if options != self.options:
                self._refuse_bound("it cannot be optimized in another way")
                self.collect()
                self.options, self.codes, self._active = options, [], None

    def call(self, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        with self.lock:
            form, numbers = call_key(args, kwargs)
            for code in self._ready(method, form, args, kwargs, bool(numbers)):
                try:
                    return self._run(code, method, args, kwargs)
                except InputError:  # noqa: PERF203
                    if not numbers:
                        raise  # else a number is a size that is out of the code's range
            self._refuse_bound(f"a call of {method}({show(args, kwargs)}) cannot go on from there")
            self._tell(method, args, kwargs)
            code = self.prepare({method: (args, kwargs)})
            self._activate(code)
            return self._run(code, method, args, kwargs)

    def _refuse_bound(self, what: str) -> None:
        if self._bound is not None:
            calls = ", ".join(f"{m}({t})" for m, t in self._bound.texts.items())
            raise FreezeError(
                f"calls of {calls} have written attributes whose type or size changes from call to call, and these are "
                f"kept with the code for such calls alone: {what}; give the attributes a form that stays"
            )

    def _run(self, code: Code, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if code.bound:
            self._bound = code
        try:
            return code.module.methods[method](*args, **kwargs)
        finally:
            self._take(code, self.settings)

    def prepare(self, calls: Mapping[str, Call]) -> Code:
        """Compile methods for calls like these, together."""
        _refuse_devices(calls)
        plain = {m: (detached(args), detached(kwargs)) for m, (args, kwargs) in calls.items()}
        settings, numbers = self._settings_key()
        start = self._start()
        module, fixed = self._build(start, plain)
        self.calls.update(plain)
        forms = {m: call_key(*call)[0] for m, call in plain.items()}
        texts = {m: show(*call) for m, call in plain.items()}
        code = Code(module, forms, settings, numbers if fixed else None, texts)
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
            return self._build(self.now(), {m: self.calls[m] for m in methods})[0].artifact

    def collect(self) -> None:
        """Bring what calls have written into `values`, where settings are after each call already."""
        if self._active is not None:
            self._take(self._active, self.written - set(self.settings))

    def _settings_key(self) -> tuple[Hashable, list[Any]]:
        numbers: list[Any] = []
        return tuple([value_key(self.values[path], numbers) for path in self.settings]), numbers

    def _start(self) -> Snapshot:
        """The snapshot, with the values of now but for what tensors hold."""
        other = {
            path: self.values[path] for path in self.settings if changed(self.origin.look(path), self.values[path])
        }
        return self.origin.replaced(other) if other else self.origin

    def _ready(self, method: str, form: Hashable, args: Any, kwargs: Any, numbers: bool) -> Iterator[Code]:
        """The code that may take the call, each with the values of now in it."""
        settings, held = self._settings_key()
        for code in reversed(list(self.codes)):
            if code.settings != settings or (code.numbers is not None and code.numbers != held):
                continue
            if code.takes(method, form, args, kwargs, numbers):
                try:
                    self._activate(code)
                except InputError:  # a setting that is fixed in this code
                    continue
                if code is not self.codes[-1]:
                    self.codes.remove(code)
                    self.codes.append(code)
                yield code

    def _build(self, start: Snapshot, calls: Mapping[str, Call]) -> tuple[Module, bool]:
        """A module, and whether the numbers among the settings had to be constants of it: a size depends on one, say.

        What PyTorch itself raises for one of the calls is raised.
        """
        try:
            return self._compile(start, calls), False
        except (CaptureError, VerifyError) as error:
            reason: NeveError = error
        for m, (args, kwargs) in calls.items():
            raised = start.error_of(m, args, kwargs)
            if raised is not None:
                raise raised from None
        if not self._settings_key()[1]:
            raise reason
        return self._compile(start, calls, numbers=False), True

    def _compile(self, start: Snapshot, calls: Mapping[str, Call], numbers: bool = True) -> Module:
        """Code that reads settings at each call, but for those that cannot vary, or for all with numbers in them."""
        from neve.api import compile
        from neve.capture.repeated import one_of_many

        args, kwargs = calls.get("forward", (None, None))
        others = {m: {"args": a, "kwargs": k} for m, (a, k) in calls.items() if m != "forward"}
        with one_of_many():
            return compile(
                start.model,
                args,
                kwargs,
                methods=others or None,
                preserved_attrs=[
                    *(p for p in self.settings if varies(self.values[p], numbers)),
                    *self._written_attributes(),
                ],
                optimize_numerics=not any(m in self.options.exact for m in calls),
                disable=self.options.disable,
                prepack=self.options.prepack,
            )

    def _written_attributes(self) -> list[str]:
        """The attributes, lists and dicts as wholes, that are written or hold what is."""
        found: dict[str, None] = {}
        for path in sorted(self.written):
            parts = path.split(".")
            whole = next(".".join(parts[:i]) for i in range(1, len(parts) + 1) if self._is_value(".".join(parts[:i])))
            found[whole] = None
        return [p for p in found if p not in self.settings]

    def _is_value(self, path: str) -> bool:
        return not isinstance(self.origin.look(path), Part)

    def _add(self, code: Code) -> None:
        known = {*self.settings, *self.written, *self._written_attributes()}
        new = {p for p in code.module.attributes if p not in known}
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
        self._refuse_bound(f"a call of {', '.join(f'{m}({t})' for m, t in code.texts.items())} cannot go on from there")
        self._refuse_other_forms(code)
        self.collect()
        self._active = None
        self._put(code, list(code.module.attributes))
        self._active = code

    def _refuse_other_forms(self, code: Code) -> None:
        """Code whose state has other forms starts from the model's, so nothing may have been written yet."""
        lost = [p for p in self.written if p not in code.module.attributes]
        if code.bound and any(not same(self.origin.look(p), self.values[p]) for p in lost):
            raise FreezeError(
                f"{', '.join(lost)} has been written, and its type or size changes in {', '.join(code.forms)}, which "
                "can begin only where the model was: give the attributes a form that stays"
            )

    def _put(self, code: Code, paths: Iterable[str]) -> None:
        for path in paths:
            if path in code.module.attributes:
                code.module.attributes[path] = self._value(path)

    def _value(self, path: str) -> Any:
        """An attribute as it is now; of a list or dict, the entries that are written may be known one by one."""
        if path in self.values:
            return self.values[path]
        whole = {path: own(self.origin.look(path))}
        for inner in self.values:
            if inner.startswith(f"{path}."):
                set_entry(whole[path], inner.removeprefix(f"{path}."), self.values[inner])
        return whole[path]

    def _take(self, code: Code, paths: Iterable[str]) -> None:
        for path in paths:
            whole, rest = path, ""
            while whole and whole not in code.module.attributes:
                whole, _, last = whole.rpartition(".")
                rest = f"{last}.{rest}".rstrip(".")
            if whole:
                found = code.module.attributes[whole]
                self.values[path] = renewed(self.values[path], entry(found, rest, path) if rest else found)

    def _tell(self, method: str, args: Any, kwargs: Any) -> None:
        text = f"{method}({show(args, kwargs)})"
        if self._told or self.calls:
            LOG.info("compiling %s", text)
        else:
            LOG.warning("compiling %s: the first call does it, as no example_inputs were given", text)
        self._told = True


def varies(value: Any, numbers: bool = True) -> bool:
    """Whether compiled code can read the value at each call; of others, such as strings, each gets code of its own.

    numbers: whether numbers may be in it.
    """
    import torch

    def plain(part: Any) -> bool:
        if isinstance(part, (list, tuple)):
            return all(map(plain, part))
        if isinstance(part, dict):
            return all(isinstance(k, str) and plain(v) for k, v in part.items())
        return part is None or isinstance(part, (torch.Tensor, str, *(NUMBERS if numbers else ())))

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


def _refuse_devices(calls: Mapping[str, Call]) -> None:
    import torch

    from neve.capture.objects import tree_leaves

    for method, call in calls.items():
        devices = {str(x.device) for x in tree_leaves(call) if isinstance(x, torch.Tensor)} - {"cpu"}
        if devices:
            raise InputError(f"{method}: an argument is on {', '.join(devices)}, wanted tensors in memory: use .cpu()")


def detached(value: Any) -> Any:
    """The value with copies of its tensors, which are plain ones without gradients."""
    import torch

    from neve.capture.objects import tree_map

    return tree_map(lambda x: x.detach().clone() if isinstance(x, torch.Tensor) else x, value)


def own(value: Any) -> Any:
    """A copy of attributes' values that no one else writes to, its tensors without gradients."""
    import torch
    from torch.utils import _pytree

    return copy.deepcopy(_pytree.tree_map(lambda x: x.detach() if isinstance(x, torch.Tensor) else x, value))


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
