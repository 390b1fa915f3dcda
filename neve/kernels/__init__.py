"""The kernels, each a folder of its own, and the headers that all of them share."""

from __future__ import annotations

from neve.kernels.attention.plan import ATTENTION
from neve.kernels.conv.plan import CONV
from neve.kernels.gemm.plan import GEMM
from neve.kernels.kernel import Kernel
from neve.kernels.recurrent.plan import RECURRENT
from neve.kernels.sparse.plan import SPARSE

KERNELS: tuple[Kernel, ...] = (GEMM, CONV, ATTENTION, RECURRENT, SPARSE)

__all__ = ["KERNELS"]
