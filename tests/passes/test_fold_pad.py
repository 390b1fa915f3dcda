from __future__ import annotations

from neve.ir.types import symbol
from neve.passes.fold_pad import PASS
from tests.passes.support import Build, check

s0 = symbol("s0")


def conv(b: Build, pads: object, value: float = 0.0, **more: object) -> object:
    attributes = {"stride": (2, 1), "padding": ((0, 1), (2, 0)), "dilation": (1, 1), **more}
    return b.op(
        "convolution", b.op("constant_pad", b.x(s0, 4, 7, 8), pads=pads, value=value), b.rand(6, 4, 3, 3), **attributes
    )


def test_spatial_zeros_become_padding() -> None:
    graph = check(
        PASS, lambda b: conv(b, ((0, 0), (0, 0), (0, 1), (3, 2))), {"convolution": 1}, sizes={s0: 2}, edges=False
    )
    assert graph.nodes[-1].op.padding == ((0, 2), (5, 2))  # type: ignore[attr-defined]


def test_near_misses() -> None:
    check(PASS, lambda b: conv(b, ((0, 0), (0, 0), (0, 1), (3, 2)), 1.0), None, miss="not 0")
    check(PASS, lambda b: conv(b, ((0, 0), (0, 0), (0, 1), (-1, 2))), None, miss="cuts")
    check(
        PASS,
        lambda b: b.op(
            "convolution",
            b.op("constant_pad", b.x(1, 2, 7), pads=((0, 0), (1, 1), (0, 0))),
            b.rand(6, 4, 3),
            stride=(1,),
            padding=((0, 0),),
            dilation=(1,),
        ),
        None,
        miss="not of spatial axes",
    )
