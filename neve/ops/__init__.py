"""The ops; importing this package fills `neve.ops.base.REGISTRY`."""
from neve.ops import (
    activation,
    attention,
    cast,
    control,
    conv,
    elementary,
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
    sort,
    source,
    special,
    upsample,
)

__all__ = [
    "activation", "attention", "cast", "control", "conv", "elementary", "image", "index", "matmul", "norm", "overwrite", "pad", "pointwise", "pool", "prepacked", "recurrent",
    "reduce", "scan", "scatter", "shape", "sort", "source", "special", "upsample",
]
