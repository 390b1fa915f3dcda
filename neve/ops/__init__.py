"""The ops; importing this package fills `neve.ops.base.REGISTRY`."""
from neve.ops import (
    attention,
    cast,
    control,
    conv,
    image,
    index,
    matmul,
    norm,
    overwrite,
    pad,
    pointwise,
    pool,
    prepacked,
    recurrent,
    reduce,
    scan,
    scatter,
    shape,
    source,
    upsample,
)

__all__ = [
    "attention", "cast", "control", "conv", "image", "index", "matmul", "norm", "overwrite", "pad", "pointwise", "pool", "prepacked", "recurrent",
    "reduce", "scan", "scatter", "shape", "source", "upsample",
]
