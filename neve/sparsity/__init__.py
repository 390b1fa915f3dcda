"""Sparse models: masks while they train, zeros or smaller layers when they are done. The interface is
torch.ao.pruning's.

`WeightNormSparsifier`, `NearlyDiagonalSparsifier` mask weights, with levels that `LambdaSL` and `CubicSL` schedule;
`SaliencyPruner`, `FPGMPruner`, `LSTMSaliencyPruner` remove whole rows and shrink the layers; `DataNormSparsifier` masks
tensors and embeddings; `ActivationSparsifier` what layers read. `neve.compile` takes the model at any time, and its
graph tells the density of every weight; `block_shape` is the shape of blocks that compiled code skips best.

Needs torch; `import neve` does not import it.
"""

from neve.errors import PruneError
from neve.sparsity.activation import ActivationSparsifier
from neve.sparsity.data.norm import DataNormSparsifier
from neve.sparsity.data.quantize import post_training_sparse_quantize
from neve.sparsity.data.scheduler import BaseDataScheduler
from neve.sparsity.data.sparsifier import BaseDataSparsifier
from neve.sparsity.mappings import get_dynamic_sparse_quantized_mapping, get_static_sparse_quantized_mapping
from neve.sparsity.masks import FakeSparsity
from neve.sparsity.modules import (
    fqn_to_module,
    get_arg_info_from_tensor_fqn,
    module_contains_param,
    module_to_fqn,
    swap_module,
)
from neve.sparsity.nearly_diagonal import NearlyDiagonalSparsifier
from neve.sparsity.prune_masks import config_from_prune, masks_to_prune
from neve.sparsity.schedulers import BaseScheduler, CubicSL, LambdaSL
from neve.sparsity.sparsifier import BaseSparsifier
from neve.sparsity.structured.fpgm import FPGMPruner
from neve.sparsity.structured.masks import FakeStructuredSparsity
from neve.sparsity.structured.saliency import LSTMSaliencyPruner, SaliencyPruner
from neve.sparsity.structured.sparsifier import BaseStructuredSparsifier
from neve.sparsity.weight_norm import WeightNormSparsifier, block_shape

__all__ = [
    "ActivationSparsifier",
    "BaseDataScheduler",
    "BaseDataSparsifier",
    "BaseScheduler",
    "BaseSparsifier",
    "BaseStructuredSparsifier",
    "CubicSL",
    "DataNormSparsifier",
    "FPGMPruner",
    "FakeSparsity",
    "FakeStructuredSparsity",
    "LSTMSaliencyPruner",
    "LambdaSL",
    "NearlyDiagonalSparsifier",
    "PruneError",
    "SaliencyPruner",
    "WeightNormSparsifier",
    "block_shape",
    "config_from_prune",
    "fqn_to_module",
    "get_arg_info_from_tensor_fqn",
    "get_dynamic_sparse_quantized_mapping",
    "get_static_sparse_quantized_mapping",
    "masks_to_prune",
    "module_contains_param",
    "module_to_fqn",
    "post_training_sparse_quantize",
    "swap_module",
]
