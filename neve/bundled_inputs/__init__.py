"""Example inputs carried by the model itself, as `torch.utils.bundled_inputs` has them: the same names, the same
methods on the model, stored in `.pt` and `.ptl` in the same way.

`augment_model_with_bundled_inputs(model, [(x,), (y,)])` gives the model `get_all_bundled_inputs()`, whose entries are
such that `model(*entry)` runs; `neve.compile(model)` takes them as its example inputs, and stores them in the `.neve`.

Large tensors are refused unless they are made compactly: one number repeated is stored as one element, `bundle_randn`
is noise made anew at each call, `InflatableArg` is a value with the code that inflates it, `bundle_large_tensor` says
that the bytes are wanted. A ScriptModule stores text that TorchScript compiles; an nn.Module may store callables too.
Nothing is changed unless all of it is right, and no other model is changed with it.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from neve.bundled_inputs.plain import augment_plain
from neve.bundled_inputs.recipes import (
    ALL,
    DEFLATED,
    FORWARD_ONLY,
    FUNCTIONS,
    GENERATE,
    BundledInputsError,
    InflatableArg,
    Inputs,
    Named,
    bundle,
    check_model,
    name_of,
)
from neve.bundled_inputs.script import augment_script, copy_without, helper_methods

if TYPE_CHECKING:
    import torch


def bundle_randn(*size: int, dtype: torch.dtype | None = None) -> InflatableArg:
    """A tensor of that size that is normal noise, other at each call; one element is stored.

    Raises BundledInputsError for a dtype that has no normal noise (integers, bool).
    """
    import torch

    stub = torch.zeros(1, dtype=dtype)
    if not (stub.is_floating_point() or stub.is_complex()):
        raise BundledInputsError(
            f"bundle_randn: got dtype {dtype}, wanted a floating-point one, as torch.randn gives no other: "
            "use InflatableArg(value, fmt) with an expression such as 'torch.randint_like({}, 10)'"
        )
    return InflatableArg(stub.expand(*size), "torch.randn_like({})")


def bundle_large_tensor(t: torch.Tensor) -> InflatableArg:
    """The tensor, bundled whatever its size."""
    return InflatableArg(t)


def bundle_inputs(
    model: Any,
    inputs: Inputs | Mapping[Any, Inputs | None] | None,
    info: list[str] | Mapping[Any, list[str]] | None = None,
    *,
    _receive_inflate_expr: list[str] | None = None,
) -> Any:
    """A copy of the model with these inputs; inputs that it had are replaced, the model stays as it is.

    inputs: for forward, or a dict of method → inputs; info: strings about them, in the same form.
    Raises AssertionError if the two forms differ, and what `augment_many_model_functions_with_bundled_inputs` raises.
    """
    many = isinstance(inputs, Mapping)
    if info is not None and isinstance(info, Mapping) != many:
        got, wanted = ("dict", "a dict") if many else ("list", "a list")
        raise AssertionError(
            f"If inputs is a {got}, info must be {wanted} or None; got a {type(info).__name__}: give both in one form"
        )
    check_model(model)
    keep = {name_of(f) for f, given in inputs.items() if given is None} if isinstance(inputs, Mapping) else set()
    keep |= {"forward"} if inputs is None else set()
    bare = _without(model, keep)
    if isinstance(inputs, Mapping):
        assert info is None or isinstance(info, Mapping)
        augment_many_model_functions_with_bundled_inputs(bare, inputs, _receive_inflate_expr, info)
    else:
        assert info is None or not isinstance(info, Mapping)
        augment_model_with_bundled_inputs(bare, inputs, _receive_inflate_expr, info)
    return bare


def augment_model_with_bundled_inputs(
    model: Any,
    inputs: Inputs | None = None,
    _receive_inflate_expr: list[str] | None = None,
    info: list[str] | None = None,
    skip_size_check: bool = False,
) -> None:
    """Give the model inputs of forward, in place; see `augment_many_model_functions_with_bundled_inputs`."""
    check_model(model)
    given, reported = {Named("forward"): inputs}, {Named("forward"): info} if info else None
    augment_many_model_functions_with_bundled_inputs(model, given, _receive_inflate_expr, reported, skip_size_check)


def augment_many_model_functions_with_bundled_inputs(
    model: Any,
    inputs: Mapping[Any, Inputs | None],
    _receive_inflate_expr: list[str] | None = None,
    info: Mapping[Any, list[str]] | None = None,
    skip_size_check: bool = False,
) -> None:
    """Give the model inputs for each method, in place.

    model: a ScriptModule, or an nn.Module. inputs: method (`model.encode`) → a list of tuples of arguments, or None if
    the model defines `_generate_bundled_inputs_for_NAME` itself. info: method → strings about its inputs.
    skip_size_check stores tensors of any size. Stored tensors are shared with the caller's, and handed out as they are.
    _receive_inflate_expr: each method's expression of its inputs is appended to it.

    The model then has `get_all_bundled_inputs_for_NAME()`, `get_bundled_inputs_functions_and_info()`, and if forward is
    among the methods `get_all_bundled_inputs()` and `get_num_bundled_inputs()`. A ScriptModule gets a class of its own,
    so that other modules scripted from the same Python class stay as they are.
    Raises TypeError for inputs that are no sequence of tuples, and BundledInputsError, a RuntimeError, for all else.
    """
    import torch

    check_model(model)
    if not inputs:
        raise BundledInputsError("Please provide inputs for at least 1 function: {model.forward: [(x,)]}")
    if hasattr(model, "get_all_bundled_inputs") or hasattr(model, FUNCTIONS):
        raise BundledInputsError(
            "Models can only be augmented with bundled inputs once. This model has bundled inputs: use bundle_inputs, "
            "which gives a copy with others"
        )
    infos = {name_of(f): list(texts) for f, texts in (info or {}).items()}
    bundles = [
        bundle(model, name_of(f), given, infos.get(name_of(f), []), skip_size_check) for f, given in inputs.items()
    ]
    if isinstance(model, torch.jit.ScriptModule):
        augment_script(model, bundles)
    else:
        augment_plain(model, bundles)
    if _receive_inflate_expr is not None:
        _receive_inflate_expr.extend(b.expression() for b in bundles if b.rows is not None)


def example_inputs(model: Any) -> dict[str, list[tuple[Any, ...]]]:
    """Method → the inputs bundled for it, inflated; empty for a model without.

    Of a module that has `get_all_bundled_inputs` alone (a hand-written one), those of forward.
    """
    if hasattr(model, FUNCTIONS):
        reported = getattr(model, FUNCTIONS)()
        return {name: list(getattr(model, about["get_inputs_function_name"][0])()) for name, about in reported.items()}
    if hasattr(model, "get_all_bundled_inputs"):
        return {"forward": list(model.get_all_bundled_inputs())}
    return {}


def _without(model: Any, keep: set[str]) -> Any:
    """A copy without bundled inputs; keep names methods whose inputs the model goes on making itself."""
    import torch

    names = list(getattr(model, FUNCTIONS)()) if hasattr(model, FUNCTIONS) else []
    methods = [m for m in (*FORWARD_ONLY, "run_on_bundled_input", FUNCTIONS) if names and hasattr(model, m)]
    for name in names:
        methods.append(f"{ALL}{name}")
        if name not in keep or getattr(model, f"{DEFLATED}{name}"):
            methods.append(f"{GENERATE}{name}")
    attributes = [f"{DEFLATED}{name}" for name in names]
    if isinstance(model, torch.jit.ScriptModule):
        return copy_without(model, [*methods, *helper_methods(model, names)], attributes)
    made = copy.deepcopy(model)
    for name in (*methods, *attributes):
        made.__dict__.pop(name, None)
    return made


__all__ = [
    "BundledInputsError",
    "InflatableArg",
    "augment_many_model_functions_with_bundled_inputs",
    "augment_model_with_bundled_inputs",
    "bundle_inputs",
    "bundle_large_tensor",
    "bundle_randn",
    "example_inputs",
]
