"""Embeddings made sparse and quantized, in either order.

The behaviour is that of torch.ao.pruning._experimental.data_sparsifier.quantization_utils (torch 2.13).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from neve.sparsity.data.sparsifier import BaseDataSparsifier
from neve.sparsity.modules import fqn_to_module, module_to_fqn

_EMBEDDINGS = (nn.Embedding, nn.EmbeddingBag)


def post_training_sparse_quantize(
    model: nn.Module,
    data_sparsifier_class: type[BaseDataSparsifier],
    sparsify_first: bool = True,
    select_embeddings: list[nn.Module] | None = None,
    **sparse_config: Any,
) -> None:
    """Prune and quantize (8 bits, a scale for each row) the embeddings of model, in place; all, or those selected.

    sparse_config goes to the class of the sparsifier. Quantized first, the weights are pruned as they are after
    rounding and keep their scales. What is pruned is zero up to half a step of its row, as torch's zero points are
    fractions. Raises AssertionError if select_embeddings is no list, has something else than Embedding or EmbeddingBag
    (exactly), or one that model does not have.
    """
    names = _names(model, select_embeddings)
    sparsifier = data_sparsifier_class(**sparse_config)
    if sparsify_first:
        _sparsify(sparsifier, names, [fqn_to_module(model, f"{name}.weight") for name in names])
        _quantize(model, names)
        return
    _quantize(model, names)
    modules: list[Any] = [fqn_to_module(model, name) for name in names]
    quantized: list[Tensor] = [module.weight() for module in modules]
    dense = [torch.dequantize(q) for q in quantized]
    _sparsify(sparsifier, names, dense)
    for module, q, weight in zip(modules, quantized, dense, strict=True):
        scales, zeros = q.q_per_channel_scales(), q.q_per_channel_zero_points()
        module.set_weight(torch.quantize_per_channel(weight, scales, zeros, q.q_per_channel_axis(), q.dtype))


def _names(model: nn.Module, selected: list[nn.Module] | None) -> list[str]:
    """The paths of the embeddings."""
    if selected is None:
        return [name for name, m in model.named_modules() if type(m) in _EMBEDDINGS and m is not model]
    if not isinstance(selected, list):
        raise AssertionError(f"the embedding_modules must be a list of embedding modules, got {type(selected)}")
    names = []
    for module in selected:
        if type(module) not in _EMBEDDINGS:
            raise AssertionError(
                f"the embedding_modules list must be an embedding or embedding bags, got {type(module)}"
            )
        name = module_to_fqn(model, module)
        if name is None:
            raise AssertionError(f"the embedding modules must be part of input model, and {module} is not")
        names.append(name)
    return names


def _sparsify(sparsifier: BaseDataSparsifier, names: Sequence[str], weights: Sequence[Any]) -> None:
    """Write zeros into the weights."""
    for i, weight in enumerate(weights):
        sparsifier.add_data(f"{names[i].replace('.', '_')}_{i}", weight)
    sparsifier.step()
    sparsifier.squash_mask()


def _quantize(model: nn.Module, names: Sequence[str]) -> None:
    from torch.ao import quantization

    for name in names:
        module: Any = fqn_to_module(model, name)
        module.qconfig = quantization.float_qparams_weight_only_qconfig
    quantization.prepare(model, inplace=True)  # type: ignore[no-untyped-call]
    quantization.convert(model, inplace=True)  # type: ignore[no-untyped-call]
