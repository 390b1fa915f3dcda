"""Attention of any leading dims: sizes that vary in each place, heads and batches that are shared or broadcast."""

from __future__ import annotations

from typing import Any

import pytest

from neve.ir.graph import Graph
from tests.emit.test_random_graphs import check, s0
from tests.plan.programs import graph, tensor


def attention(*shapes: tuple[Any, ...], **attributes: Any) -> Graph:
    types = [tensor(*s) for s in shapes]
    return graph(types, lambda b, *x: b.op("scaled_dot_product_attention", *x, **attributes))


FIXED = {
    "mask shared by some of the batch": attention(*[(2, 3, 2, 5, 8)] * 3, (2, 1, 1, 5, 5)),
    "keys shared by some of the batch": attention((2, 3, 2, 5, 8), (2, 1, 2, 5, 8), (2, 1, 2, 5, 8)),
    "keys and values shared apart": attention((2, 3, 2, 5, 8), (1, 3, 2, 5, 8), (2, 3, 1, 5, 8)),
    "a batch of two dims": attention(*[(2, 3, 2, 5, 8)] * 3, (2, 5, 5)),
    "keys of fewer dims": attention((2, 3, 5, 8), (3, 5, 8), (2, 1, 5, 8)),
    "queries shared": attention((1, 1, 5, 8), (2, 3, 5, 8), (3, 5, 8)),
    "no heads": attention((5, 8), (3, 5, 8), (5, 8)),
}
VARYING = {
    "batch without heads": attention(*[(s0, 5, 8)] * 3),
    "batch without heads, masked": attention(*[(s0, 5, 8)] * 3, (s0, 5, 5)),
    "batch without heads, causal": attention(*[(s0, 5, 8)] * 3, is_causal=True),
    "heads": attention(*[(2, s0, 5, 8)] * 3),
    "row": attention(*[(2, 3, 5, s0)] * 3),
    "batch": attention(*[(s0, 3, 5, 8)] * 3, (1, 1, 5, 5)),
}


@pytest.mark.parametrize(("graphs", "sizes"), [(FIXED, ({},)), (VARYING, ({s0: 4}, {s0: 9}))], ids=["fixed", "varying"])
def test_attention_of_any_leading_dims(graphs: dict[str, Graph], sizes: tuple[dict[Any, int], ...]) -> None:
    check(list(graphs.values()), sizes)
