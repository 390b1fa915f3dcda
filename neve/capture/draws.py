"""What torch.export and its decompositions would lose of a model that draws random numbers: draws whose values nobody
uses, which move the generator on all the same, the checks of torch.distributions, and seeds that the model sets.
"""

from __future__ import annotations

import keyword
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import torch
from torch import fx

from neve.errors import CaptureError
from neve.internals import missing, replaced

IMPURE, TRUE = "torch.fx.node.Node.is_impure", "torch._is_all_true"
CHECKED = "torch._assert_async", "torch._subclasses.FakeTensor", "torch._subclasses.functional_tensor.FunctionalTensor"
NAMED = "torch.fx.graph._is_from_torch"
NEEDED = (IMPURE, TRUE, NAMED, *CHECKED)  # of torch, so that no draw is lost
SEEDING = ("torch.manual_seed", "torch.random.manual_seed", "torch.seed", "torch.random.seed")
INVALID = "a parameter or value of a torch.distributions distribution is outside of its constraint"


@contextmanager
def kept_draws() -> Iterator[None]:
    """While torch removes dead code: not those that draw. And torch.distributions checks its parameters at run time,
    where it would branch on them: an assertion on a tensor is captured, a branch that raises is not. CaptureError where
    the model seeds. With a torch that lacks NEEDED nothing is kept: the builders of draws refuse.
    """
    seeding = [(name, refuse_seed) for name in SEEDING]
    if missing(*NEEDED):
        with replaced(*seeding):
            yield
        return
    pure, all_true, from_torch = fx.Node.is_impure, torch._is_all_true, torch.fx.graph._is_from_torch

    def is_impure(node: fx.Node, *args: Any, **kwargs: Any) -> bool:
        return draws(node) or pure(node, *args, **kwargs)

    def is_all_true(valid: torch.Tensor) -> Any:
        if not isinstance(valid, torch._subclasses.FakeTensor | torch._subclasses.functional_tensor.FunctionalTensor):
            return all_true(valid)
        torch._assert_async(valid.all(), INVALID)
        return True

    def has_name(obj: Any) -> bool:
        # torch writes torch.ops.aten.random.from into Python code, which is no Python
        return not (isinstance(obj, torch._ops.OpOverload) and keyword.iskeyword(obj._overloadname)) and from_torch(obj)

    with replaced((IMPURE, is_impure), (TRUE, is_all_true), (NAMED, has_name), *seeding):
        yield


def drop_unused_draws(root: fx.GraphModule) -> None:
    """Remove draws whose values nobody uses, as torch.jit does before it runs a graph; those in place have a use."""

    def needed(node: fx.Node) -> bool:
        in_place = isinstance(node.target, torch._ops.OpOverload) and node.target._schema.is_mutable
        return node.is_impure() and (in_place or not draws(node))

    for module in root.modules():
        if isinstance(module, fx.GraphModule):
            module.graph.eliminate_dead_code(needed)
            module.recompile()


def refuse_seed(*args: Any) -> NoReturn:
    """In place of torch.manual_seed while a model is traced."""
    raise CaptureError(
        "the model seeds torch's generator (torch.manual_seed), which would be lost: seed before the call, or keep "
        "numbers that are always the same in a buffer"
    )


def draws(node: fx.Node) -> bool:
    """Whether a node, or one in a branch or loop that it runs, draws random numbers."""
    if isinstance(node.target, torch._ops.OpOverload):
        return torch.Tag.nondeterministic_seeded in node.target.tags
    if not isinstance(node.target, torch._ops.HigherOrderOperator):
        return False
    owner = node.graph.owning_module
    inner = [a.target for a in node.args if isinstance(a, fx.Node) and a.op == "get_attr"]
    graphs = [getattr(owner, name, None) for name in inner if isinstance(name, str)]
    return any(draws(n) for g in graphs if isinstance(g, fx.GraphModule) for n in g.graph.nodes)
