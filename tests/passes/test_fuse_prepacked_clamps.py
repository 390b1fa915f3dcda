from __future__ import annotations

import pytest

from neve.passes.fuse_prepacked_clamps import PASS
from tests.passes.support import check


@pytest.mark.parametrize(
    ("own", "outer", "want"),
    [
        ((None, None), (-1.0, 2.0), (-1.0, 2.0)),
        ((0.0, 1.0), (2.0, 3.0), (2.0, 2.0)),
        ((2.0, 3.0), (0.0, 1.0), (1.0, 1.0)),
        ((0.0, None), (None, 6.0), (0.0, 6.0)),
    ],
)
def test_own_bounds_are_clamped_into_the_outer(
    own: tuple[object, object], outer: tuple[object, object], want: tuple[object, object]
) -> None:
    graph = check(
        PASS,
        lambda b: b.op(
            "clamp",
            b.op("prepacked_linear", b.x(30, 4), b.rand(5, 4), minimum=own[0], maximum=own[1]),
            min=outer[0],
            max=outer[1],
        ),
        {"prepacked_linear": 1},
        edges=False,
    )
    op = graph.nodes[-1].op
    assert (op.minimum, op.maximum) == want  # type: ignore[attr-defined]


def test_near_misses() -> None:
    check(PASS, lambda b: b.op("clamp", b.op("linear", b.x(3, 4), b.rand(5, 4)), min=0.0), None)
    check(PASS, lambda b: b.op("tanh", b.op("prepacked_linear", b.x(3, 4), b.rand(5, 4))), None)
