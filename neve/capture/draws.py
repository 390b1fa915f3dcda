"""What torch.export and its decompositions would lose of a model that draws random numbers: draws whose values nobody
uses, which move the generator on all the same, and the checks of torch.distributions.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import fx

from neve.internals import missing, replaced

IMPURE, TRUE = "torch.fx.node.Node.is_impure", "torch._is_all_true"
INVALID = "a parameter or value of a torch.distributions distribution is outside of its constraint"


@contextmanager
def kept_draws() -> Iterator[None]:
    """While torch removes dead code: not those that draw. And torch.distributions checks its parameters at run time,
    where it would branch on them: an assertion on a tensor is captured, a branch that raises is not.
    """
    if missing(IMPURE, TRUE):
        yield
        return
    pure, all_true = fx.Node.is_impure, torch._is_all_true

    def is_impure(node: fx.Node, *args: Any, **kwargs: Any) -> bool:
        return draws(node) or pure(node, *args, **kwargs)

    def is_all_true(valid: torch.Tensor) -> Any:
        if not isinstance(valid, torch._subclasses.FakeTensor | torch._subclasses.functional_tensor.FunctionalTensor):
            return all_true(valid)
        torch._assert_async(valid.all(), INVALID)
        return True

    with replaced((IMPURE, is_impure), (TRUE, is_all_true)):
        yield


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
