"""Capture: the one stage that knows torch, whose release is checked when this is imported."""

from __future__ import annotations

import re
import warnings

from neve.errors import NeveError
from neve.internals import require

OLDEST, NEWEST = (2, 13), (2, 14)
"""The releases of torch that neve is tested with; pyproject.toml says the same."""

MEND = "pip install 'neve[compile]'"


def check_release(version: str) -> None:
    """NeveError if this release of torch is too old, a warning if it is newer than any that was tested."""
    found = tuple(int(part) for part in re.findall(r"\d+", version)[:2])
    oldest, newest = (".".join(map(str, release)) for release in (OLDEST, NEWEST))
    if found < OLDEST:
        raise NeveError(f"neve compiles with torch >= {oldest}, and torch {version} is installed: {MEND}")
    if found > NEWEST:
        warnings.warn(f"neve is tested with torch {oldest} to {newest}, not with {version}: {MEND}", stacklevel=3)


try:
    import torch
except ModuleNotFoundError as error:
    if error.name != "torch":
        raise
    raise NeveError(f"compiling needs PyTorch, which is not installed: {MEND} (loading and running do not)") from error

check_release(torch.__version__)
require(
    "neve.compile",
    "torch._ops.HigherOrderOperator",
    "torch._ops.OpOverload",
    "torch._C._dispatch_has_kernel",
    "torch._dispatch.python.enable_python_dispatcher",
    "torch._decomp.global_decomposition_table",
    "torch._prims_common.ELEMENTWISE_TYPE_PROMOTION_KIND",
    "torch._prims_common.elementwise_dtypes",
    "torch._prims_common.suggest_memory_format",
    "torch._subclasses.fake_tensor.FakeTensorMode",
    "torch.fx.experimental._config.backed_size_oblivious",
    "torch.utils._pytree.tree_leaves",
    "torch.utils._sympy.value_ranges.ValueRanges",
)
