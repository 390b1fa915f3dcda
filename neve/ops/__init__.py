"""The ops; importing this package fills `neve.ops.base.REGISTRY`."""
from neve.ops import cast, overwrite, pad, pointwise, shape, source

__all__ = ["cast", "overwrite", "pad", "pointwise", "shape", "source"]
