"""Custom ops (torch.library) that a user has given in terms of torch's own: capture has what they are made of."""

from __future__ import annotations

import pkgutil
from collections.abc import Callable
from typing import Any

import torch
from torch.utils import _pytree as pytree

from neve.errors import CaptureError, NeveError
from neve.internals import require

_GIVEN: dict[str, Callable[..., Any]] = {}
"""By name: torch may have several objects of one op."""
NEEDED = (
    "torch._library.custom_ops.OPDEFS",
    "torch._library.simple_registry.singleton",
    "torch._C._dispatch_has_kernel_for_dispatch_key",
)
KEYS = ("Meta", "CompositeExplicitAutograd", "CompositeImplicitAutograd")


def register(op: Any, function: Callable[..., Any]) -> None:
    """See `neve.register_op`."""
    overload = _overload(op)
    schema = overload._schema
    if overload.namespace in ("aten", "prims"):
        raise NeveError(f"{schema.name} is torch's own op, which only a custom op may be registered in terms of")
    if schema.is_mutable:
        raise NeveError(
            f"{schema.name} writes its arguments, which a registered function cannot: give the model an op that "
            "returns new tensors"
        )
    _GIVEN[_name(overload)] = function
    if not _has_shapes(schema.name):
        torch.library.register_fake(schema.name, _function(overload))


def _has_shapes(name: str) -> bool:
    """Whether an op runs on fake tensors already; one of torch.library.custom_op raises until it has a fake."""
    require("register_op", *NEEDED)
    made = pkgutil.resolve_name(NEEDED[0]).get(name)
    if made is not None:
        return made._abstract_fn is not None
    fake = pkgutil.resolve_name(NEEDED[1]).find(name).fake_impl.kernel
    return fake is not None or any(pkgutil.resolve_name(NEEDED[2])(name, key) for key in KEYS)


def inlined(root: torch.fx.GraphModule) -> None:
    """Call the registered functions in place of their ops, which the next trace of the graph then goes through."""
    for module in root.modules():
        for node in module.graph.nodes if isinstance(module, torch.fx.GraphModule) else ():
            if isinstance(node.target, torch._ops.OpOverload) and _name(node.target) in _GIVEN:
                node.target = _function(node.target, node.meta.get("val"))


def _function(op: Any, val: Any = None) -> Callable[..., Any]:
    """What is called in an op's place; val: what the op itself gives, as fake tensors."""

    def function(*args: Any, **kwargs: Any) -> Any:
        found = _call(op, args, kwargs)
        if val is not None and _forms(found) != _forms(val):
            raise CaptureError(
                f"the function registered for {op._schema.name} gives {_forms(found)}, the op {_forms(val)}"
            )
        return found

    return function


def _forms(result: Any) -> list[str]:
    """The dtypes and ranks of the tensors in a result."""
    tensors = [t for t in pytree.tree_leaves(result) if isinstance(t, torch.Tensor)]
    return [f"{t.dtype} of {t.dim()} dims" for t in tensors]


def _name(op: Any) -> str:
    return str(op.name())


def _overload(op: Any) -> Any:
    """From an overload, an op of torch.ops, what torch.library.custom_op gives, or a name: "mylib::op.overload"."""
    op = getattr(op, "_opoverload", op)
    if isinstance(op, str):
        namespace, found, name = op.partition("::")
        packet, _, which = name.partition(".")
        try:
            return getattr(getattr(getattr(torch.ops, namespace), packet), which or "default")
        except AttributeError:
            wanted = "there is no such op" if found else 'a name is "namespace::op"'
            raise NeveError(f"register_op of {op!r}: {wanted}") from None
    op = getattr(op, "default", op)  # of torch.ops.mylib.op
    if not isinstance(op, torch._ops.OpOverload):
        raise NeveError(f"register_op of {type(op).__name__}: an op is a name, as 'mylib::op', or of torch.ops")
    return op


def _call(op: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The function for an op, with the defaults of the op's schema."""
    named: dict[str, Any] = {}
    after: dict[str, Any] = {}
    for i, a in enumerate(op._schema.arguments):
        value = args[i] if i < len(args) else kwargs.get(a.name, a.default_value)
        (after if a.kwarg_only else named)[a.name] = value
    return _GIVEN[_name(op)](*named.values(), **after)
