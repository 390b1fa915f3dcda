"""Equal elements: where an op says that torch's result is settled, it is torch's to the bit, positions included."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from neve.ops.base import Op
from neve.ops.reduce import Argmax, Argmin
from neve.ops.scan import Cummax, Cummin
from neve.ops.sort import Kthvalue, Median, Sort, TopK

Call = Callable[[torch.Tensor], tuple[torch.Tensor, ...]]
PROBLEMS: list[tuple[Op, Call, bool]] = [
    (Argmax(1, False), lambda x: (x.argmax(1),), False),
    (Argmax(0, False), lambda x: (x.max(0)[1],), False),
    (Argmin(1, False), lambda x: (x.min(1)[1],), False),
    (Cummax(1), lambda x: x.cummax(1), False),
    (Cummin(0), lambda x: x.cummin(0), False),
    (Median(1), lambda x: x.median(1), False),
    (Median(1, False, True), lambda x: x.nanmedian(1), False),
    (Sort(1), lambda x: x.sort(dim=1, stable=True), False),
    (Sort(1, True), lambda x: x.sort(dim=1, stable=True, descending=True), False),
    (Sort(1, True, False), lambda x: x.sort(1, descending=True), True),
    (TopK(3, 1), lambda x: x.topk(3, 1), True),
    (TopK(3, 1, False), lambda x: x.topk(3, 1, largest=False), True),
    (TopK(3, 1, True, False), lambda x: x.topk(3, 1, sorted=False), True),
    (Kthvalue(2, 1), lambda x: x.kthvalue(2, 1), True),
]
"""op, what it is in torch, whether torch leaves anything open."""


@pytest.mark.parametrize(("op", "call", "opens"), PROBLEMS, ids=lambda p: str(p) if isinstance(p, Op) else "")
def test_what_is_settled_is_equal(op: Op, call: Call, opens: bool) -> None:
    seen = set()
    for seed, (rows, n) in enumerate([(3, 9), (4, 40), (2, 200)] * 4):
        torch.manual_seed(seed)
        x = [torch.randn(rows, n), torch.randn(rows, n).round(), torch.ones(rows, n)][seed % 3]
        x[torch.rand(rows, n) > (0.9 if seed > 8 else 1)] = torch.nan
        states = op.open(x.numpy()) or (False,) * 2
        for got, want, free in zip(op.eval(x.numpy()), call(x), states, strict=False):
            seen.add(free)
            if not free:
                np.testing.assert_array_equal(got, want.numpy())
    assert (True in seen) == opens
