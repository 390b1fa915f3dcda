"""The table: ATen overload → builder. Capture keeps every overload in it; torch's decompositions reduce all others.

A builder takes the Context and the node's arguments (tensors as Values, sizes as dims, the rest as Python has it) and
returns a Value, a tuple of them (None for a result that no one may use), or what an argument may be.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, TypeVar

import torch

from neve.internals import missing, replaced

Builder = Callable[..., Any]
TABLE: dict[Any, Builder] = {}
F = TypeVar("F", bound=Builder)


def overload(name: str) -> Any:
    """ATen's op of a name such as "add.Tensor"; a name without overload is its default."""
    packet, _, which = name.partition(".")
    return getattr(getattr(torch.ops.aten, packet), which or "default")


def aten(*names: str) -> Callable[[F], F]:
    """Register a builder for overloads (see `overload`)."""

    def register(f: F) -> F:
        for name in names:
            op = overload(name)
            if op in TABLE:
                raise AssertionError(f"two builders for {name}")
            TABLE[op] = f
        return f

    return register


FOREIGN: dict[str, Builder] = {}
"""Ops of other packages, which may be imported later, by their full names → their builders."""


def foreign(name: str) -> Callable[[F], F]:
    """Register the builder of an op of another package, such as torchvision::nms."""

    def register(f: F) -> F:
        FOREIGN[name] = f
        return f

    return register


def builder_of(target: Any) -> Builder | None:
    """The builder of an fx node's target, if it has one."""
    schema = getattr(target, "_schema", None)
    return table().get(target) or FOREIGN.get(getattr(schema, "name", ""))


@cache
def table() -> dict[Any, Builder]:
    """The complete table."""
    from neve.capture import (  # noqa: F401
        aten_activation,
        aten_attention,
        aten_bags,
        aten_checks,
        aten_complex,
        aten_complex_math,
        aten_distance,
        aten_elimination,
        aten_fourier,
        aten_index,
        aten_lengths,
        aten_nn,
        aten_orthogonal,
        aten_pointwise,
        aten_pool,
        aten_random,
        aten_recurrent,
        aten_reduce,
        aten_segments,
        aten_shape,
        aten_sort,
        aten_source,
        aten_special,
        detection,
    )
    from neve.capture.pairs import COMPLEX

    return COMPLEX | TABLE


@cache
def decompositions() -> dict[Any, Any]:
    """How torch reduces whatever is not in the table, but for composite ops (see `few_composites`)."""
    from torch._decomp import global_decomposition_table
    from torch.export import default_decompositions

    core: Any = default_decompositions()
    all_known = dict(global_decomposition_table["post_autograd"]) | dict(core.items())
    own = {torch.ops.aten.copy.default: _copied, torch.ops.aten.std_mean.dim: _std_mean}
    return {op: f for op, f in all_known.items() if op not in table()} | own


def _copied(x: torch.Tensor, source: torch.Tensor, non_blocking: bool = False) -> torch.Tensor:
    # run_decompositions takes a copy into a buffer for its source, whatever the shape and dtype of the source
    return source.to(x.dtype).expand(x.shape).clone()


def _std_mean(x: torch.Tensor, dim: Any, unbiased: bool = True, keepdim: bool = False) -> Any:
    # torch's own, which symbolic sizes need, does not take the arguments of the op's schema
    return torch.ops.aten.std_mean.correction(x, dim, correction=int(unbiased), keepdim=keepdim)


@contextmanager
def few_composites(more: Collection[Any] = (), less: Collection[Any] = ()) -> Iterator[dict[Any, Any]]:
    """Yields the decompositions for run_decompositions inside the block, which leaves the ops in `more` as they are,
    and not those in `less`.

    A composite op decomposes by itself unless torch is asked to preserve it. run_decompositions patches the dispatch of
    each of the thousand composites that exist (0.2 s), so inside the block only those in the table are given to it.
    """
    name = "torch.export.exported_program._collect_all_valid_cia_ops"
    if missing(name):  # a torch that does it another way
        yield dict(decompositions())
        return
    composites = (_composites(name) | frozenset(more)) - frozenset(less)
    with replaced((name, lambda: {op for op in composites if op in table()})):
        yield {op: f for op, f in decompositions().items() if op not in composites}


@cache
def _composites(name: str) -> frozenset[Any]:
    return frozenset(pkgutil.resolve_name(name)())
