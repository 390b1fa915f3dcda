"""The base of the structured pruners: masks of whole rows while a model trains, then layers without these rows.

    pruner = SaliencyPruner({"sparsity_level": 0.5})
    pruner.prepare(model, [{"tensor_fqn": "conv1.weight"}, {"tensor_fqn": "fc1.weight"}])
    for epoch in ...:               # train
        pruner.step()
    model = pruner.prune()          # smaller layers, the same results

Where torch.ao.pruning._experimental.pruner matches patterns of layers, channels are followed through the whole model
here (`flow`), so norms, residual sums, concatenations and layers with several users do not stand in the way.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from neve.sparsity.modules import module_to_fqn
from neve.sparsity.sparsifier import BaseSparsifier, Group
from neve.sparsity.structured.flow import Plan, Rows, follow
from neve.sparsity.structured.masks import FakeStructuredSparsity, attach_rows, rows_first, squash_rows
from neve.sparsity.structured.shrink import shrink


class BaseStructuredSparsifier(BaseSparsifier):
    """Subclasses implement update_mask, which writes False into the mask (bool, [rows]) of a weight. Rows are what a
    layer gives: output features, output channels (of a transposed convolution too), gates of units.

    The configuration's prune_bias (by default True) tells whether a pruned row's bias is pruned with it. If not, the
    row gives its bias, and prune carries that into the layers that read it.
    """

    SUPPORTED_MODULES: ClassVar[frozenset[type[nn.Module]]] = frozenset({nn.Linear, nn.Conv2d, nn.LSTM})
    parametrization: ClassVar[type[nn.Module]] = FakeStructuredSparsity

    def __init__(self, defaults: dict[str, Any] | None = None) -> None:
        super().__init__(defaults)

    def _tensor_names(self, module: nn.Module) -> Sequence[str]:
        if isinstance(module, nn.LSTM):
            return [n for n in module._flat_weights_names if n.startswith(("weight_ih", "weight_hh"))]
        return ("weight",)

    def _ones(self, tensor: Tensor, module: nn.Module) -> Tensor:
        rows = rows_first(module, tensor).shape[0]
        return torch.ones(rows, dtype=torch.bool, device=tensor.device)

    def _attach(self, group: Group, mask: Tensor) -> None:
        cls = group.get("parametrization", self.parametrization)
        attach_rows(group["module"], group["tensor_name"], mask, group.get("prune_bias", True), cls)

    def _squash(self, group: Group) -> None:
        squash_rows(group["module"], group["tensor_name"])

    def rows(self, module: nn.Module, tensor_name: str) -> Tensor:
        """The masked weight of a layer whose rows can be chosen one by one, with these along dim 0 (a transposed
        convolution's own has them in dim 1). Raises ValueError for another.
        """
        weight: Tensor = getattr(module, tensor_name)
        if isinstance(module, nn.LSTM):
            raise ValueError(
                f"the rows of {tensor_name!r} are gates, four a unit, and go together: use LSTMSaliencyPruner"
            )
        if weight.dim() < 2:
            raise ValueError(
                "Structured pruning can only be applied to a 2+dim weight tensor! "
                f"{tensor_name!r} has the shape {list(weight.shape)}"
            )
        return rows_first(module, weight)

    def prune(self, example_inputs: tuple[Any, ...] | None = None, *, exact: bool = True) -> nn.Module:
        """Remove pruned rows from their layers and what they fed from the layers behind, in place; returns the model.

        In evaluation mode the model computes what the masked model computes, up to rounding: rows that give something
        else than zero (a bias that is not pruned, an activation with f(0) != 0) go into the biases of their readers.
        Two exceptions: outputs of the model lose the channels of pruned rows, and a LayerNorm takes mean and variance
        over what is left (a UserWarning says so). All masks of this pruner are squashed.

        A row that cannot be removed stays, as zeros: if its channel meets one that is not pruned in a sum, is read by
        an operation that is not known, belongs to a convolution in groups that is not depthwise, or is not zero at the
        input of a zero-padded or transposed convolution. A UserWarning tells where. One row of a layer always stays.

        exact: with False rows may go that are not zero at a zero-padded convolution, as they often are not behind a
        batch norm. Their constants go into its bias, and only what it gives next to borders differs from the masked
        model's (a UserWarning says so).

        example_inputs: arguments of a call, which tell the ranks of values. Without them inputs are taken as batched:
        [N, C] for Linear, [N, C, H, W] for Conv2d, three dims for LSTM.

        Raises PruneError if the model cannot be traced by torch.fx, ValueError before prepare, and AttributeError if
        masks were squashed; then nothing is changed.
        """
        model = self.model
        if model is None:
            raise ValueError("there is nothing to prune: call prepare(model, config) first")
        masks = {
            (g["module"], g["tensor_name"]): Rows(
                self.mask(g["module"], g["tensor_name"]).clone(), g.get("prune_bias", True)
            )
            for g in self.groups
        }
        plan = follow(model, masks, example_inputs, exact)
        self.squash_mask()
        shrink(plan)
        self._tell(plan)
        return model

    def _tell(self, plan: Plan) -> None:
        """Warn of what did not go, and of what changes results."""
        if stuck := plan.stuck():
            warnings.warn("pruned rows that stay, as zeros: " + "; ".join(stuck), UserWarning, stacklevel=3)
        for layers, what in (
            (plan.renormalized(), "mean and variance of {} are over fewer features now"),
            (plan.rough(), "constants are in biases, but {} read zeros next to borders"),
        ):
            if layers:
                names = ", ".join(repr(module_to_fqn(plan.model, layer)) for layer in layers)
                text = what.format(names) + ": results differ from the masked model's; train on"
                warnings.warn(text, UserWarning, stacklevel=3)


def pick(scores: Tensor, count: int) -> Tensor:
    """The indices of the count least scores; of equal ones the first."""
    return scores.argsort(stable=True)[:count]
