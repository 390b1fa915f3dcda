"""A module's state as Python sees it: by the name of each tensor, and by the names of the model's attributes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any

import numpy as np

from neve.errors import InputError, NeveError
from neve.runtime.context import Context
from neve.runtime.signature import Tensor, Tree
from neve.runtime.tensors import NUMPY, is_torch, prepare, torch_module
from neve.runtime.trees import builder

Array = np.ndarray[Any, Any]


class StateView(MutableMapping[str, Any]):
    """A module's state by name: reading gives a numpy copy, assigning takes an array or tensor of its dtype and
    shape.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._states = context.signature.state

    def __getitem__(self, name: str) -> Array:
        self._require(name)
        view = _in_place(self._context, name)
        with self._context.lock:
            return view.copy()

    def __setitem__(self, name: str, value: Any) -> None:
        self._require(name)
        view = _in_place(self._context, name)
        array = _as_array(value, view, f"state {name!r}")
        with self._context.lock:
            view[...] = array

    def __delitem__(self, name: str) -> None:
        raise NeveError("state cannot be removed; module.reset() restores its initial content")

    def __iter__(self) -> Iterator[str]:
        return iter(self._states)

    def __len__(self) -> int:
        return len(self._states)

    def __repr__(self) -> str:
        return repr({name: self[name] for name in self})

    def _require(self, name: str) -> None:
        if name not in self._states:
            raise KeyError(f"no state {name!r}; there is {', '.join(self._states) or 'none'}")


class Attributes(MutableMapping[str, Any]):
    """The attributes of the model that calls read at run time, by dotted path: what methods write, what was preserved.

    Reading gives a number as a Python number, a list, tuple or dict anew, and a tensor in place: writing into it
    changes what later calls read, and calls change it. It is a torch tensor if this process has imported torch, else a
    numpy array (of bits as uint16 for bfloat16). Assigning takes a value of the same type, structure, dtypes and shapes
    and changes all of it or nothing. InputError: it does not fit, or the value is fixed. `module.reset()` restores all.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._states = list(context.signature.state)
        self._trees = context.signature.attributes

    def __getitem__(self, name: str) -> Any:
        tree = self._tree(name)
        leaves: dict[int, Any] = {}
        plain = _numbered(tree, leaves)
        values = {i: self._view(leaf) for i, leaf in leaves.items()}
        with self._context.lock:  # for the numbers, which are read here
            return builder(plain)([_out(v, self._dtype(leaves[i]), leaves[i]) for i, v in values.items()])

    def __setitem__(self, name: str, value: Any) -> None:
        found: list[tuple[Array, Array]] = []
        self._take(self._tree(name), value, name, found)
        with self._context.lock:
            for view, array in found:
                view[...] = array

    def __delitem__(self, name: str) -> None:
        raise NeveError("attributes cannot be removed; module.reset() restores their initial content")

    def __iter__(self) -> Iterator[str]:
        return iter(self._trees)

    def __len__(self) -> int:
        return len(self._trees)

    def __repr__(self) -> str:
        return repr({name: self[name] for name in self})

    def _tree(self, name: str) -> Tree:
        if name not in self._trees:
            raise KeyError(f"no attribute {name!r}; there is {', '.join(self._trees) or 'none'}")
        return self._trees[name]

    def _dtype(self, leaf: Tree) -> str:
        return self._context.signature.state[self._states[leaf["leaf"]]].dtype

    def _view(self, leaf: Tree) -> Array:
        whole = _in_place(self._context, self._states[leaf["leaf"]])
        if "view" not in leaf:
            return whole
        offset, shape, strides = leaf["view"]
        repeats = any(s == 0 and n > 1 for n, s in zip(shape, strides, strict=True))
        flat = whole.reshape(-1)[offset:]
        return np.lib.stride_tricks.as_strided(
            flat, shape, [s * whole.itemsize for s in strides], writeable=not repeats
        )

    def _take(self, tree: Tree, value: Any, where: str, found: list[tuple[Array, Array]]) -> None:
        """Collect (place, content) for every leaf; InputError unless value has the tree's structure."""
        if "leaf" in tree:
            view = self._view(tree)
            if "as" in tree:
                wanted = Tensor(where, self._dtype(tree), (), tree["as"])
                array = prepare(value, wanted, "attribute")[2]
            else:
                array = _as_array(value, view, f"attribute {where!r}")
                if not view.flags.writeable:
                    raise InputError(f"attribute {where!r} repeats elements (stride 0), so it cannot be set")
            found.append((view, array))
            return
        ((kind, parts),) = tree.items()
        if kind in ("none", "const"):
            fixed = None if kind == "none" else parts
            if type(value) is not type(fixed) or value != fixed:
                raise InputError(
                    f"attribute {where!r}: got {value!r}, wanted {fixed!r}, with which the model was compiled: it is "
                    "fixed; set it in the model and compile that"
                )
        elif kind in ("tuple", "list"):
            if not isinstance(value, (tuple, list)) or len(value) != len(parts):
                size = f" of {len(value)}" if isinstance(value, (tuple, list)) else ""
                raise InputError(f"attribute {where!r}: got {_kind(value)}{size}, wanted a {kind} of {len(parts)}")
            for i, (part, item) in enumerate(zip(parts, value, strict=True)):
                self._take(part, item, f"{where}[{i}]", found)
        else:
            if not isinstance(value, Mapping) or set(value) != set(parts):
                keys = f" with {', '.join(map(str, value))}" if isinstance(value, Mapping) else ""
                raise InputError(
                    f"attribute {where!r}: got {_kind(value)}{keys}, wanted a dict with {', '.join(parts)}"
                )
            for key, part in parts.items():
                self._take(part, value[key], f"{where}[{key!r}]", found)


class Namespace:
    """A submodule of the model: its attributes as Python attributes, those of its submodules as namespaces."""

    def __init__(self, attributes: Attributes, prefix: str) -> None:
        self.__dict__["_attributes"], self.__dict__["_prefix"] = attributes, prefix

    def __getattr__(self, name: str) -> Any:
        path = f"{self._prefix}.{name}"
        if (found := lookup(self._attributes, path)) is not MISSING:
            return found
        raise AttributeError(f"{self._prefix} has no attribute {name!r}, only {', '.join(self._names())}")

    def __setattr__(self, name: str, value: Any) -> None:
        if f"{self._prefix}.{name}" not in self._attributes:
            raise AttributeError(f"{self._prefix} has no attribute {name!r} to set, only {', '.join(self._names())}")
        self._attributes[f"{self._prefix}.{name}"] = value

    def __dir__(self) -> list[str]:
        return self._names()

    def __repr__(self) -> str:
        return f"<attributes of {self._prefix}: {', '.join(self._names())}>"

    def _names(self) -> list[str]:
        start = f"{self._prefix}."
        return list(
            dict.fromkeys(k.removeprefix(start).partition(".")[0] for k in self._attributes if k.startswith(start))
        )


MISSING = object()


def lookup(attributes: Attributes, path: str) -> Any:
    """The attribute's value, the Namespace of those below it, or MISSING."""
    if path in attributes:
        return attributes[path]
    return Namespace(attributes, path) if any(k.startswith(f"{path}.") for k in attributes) else MISSING


def _in_place(context: Context, name: str) -> Array:
    state = context.signature.state[name]
    return context.state(name).view(NUMPY[state.dtype]).reshape(state.shape)


def _numbered(tree: Tree, leaves: dict[int, Tree]) -> Tree:
    """The tree with its leaves numbered in order, and without what is known of them alone; they are put into leaves."""
    if "leaf" in tree:
        leaves[len(leaves)] = tree
        return {"leaf": len(leaves) - 1} | ({"as": tree["as"]} if "as" in tree else {})
    ((kind, parts),) = tree.items()
    if kind in ("tuple", "list"):
        return {kind: [_numbered(t, leaves) for t in parts]}
    return {kind: {k: _numbered(t, leaves) for k, t in parts.items()}} if kind == "dict" else tree


def _out(view: Array, dtype: str, leaf: Tree) -> Any:
    torch = torch_module()
    if torch is None or "as" in leaf:
        return view
    if not view.flags.writeable:  # a view that repeats elements
        view = view.copy()
    return torch.from_numpy(view.view(np.int16)).view(torch.bfloat16) if dtype == "bfloat16" else torch.from_numpy(view)


def _as_array(value: Any, view: Array, what: str) -> Array:
    """A tensor or array of the view's dtype and shape; InputError for any other."""
    if is_torch(value):
        value = value.detach().cpu()
        bits = value.dtype == torch_module().bfloat16
        value = value.view(torch_module().int16).numpy().view(np.uint16) if bits else value.numpy()
    array: Array = np.asarray(value)
    if array.dtype != view.dtype or array.shape != view.shape:
        got, wanted = f"{array.dtype} {list(array.shape)}", f"{view.dtype} {list(view.shape)}"
        raise InputError(f"{what}: got {got}, wanted {wanted}")
    return array


def _kind(value: Any) -> str:
    return f"a {type(value).__name__}"
