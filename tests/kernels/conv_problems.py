"""Convolution problems at the edges: about a tile, odd strides and dilations, kernels larger than the input, empty."""

from __future__ import annotations

from dataclasses import replace

from neve.ir.types import DType
from tests.kernels.conv_unit import Problem

P = Problem
DIRECT = (
    P(8, 16, 5, 5),
    P(3, 5, 7, 9),
    P(64, 16, 6, 6),
    P(64, 24, 7, 5),
    P(70, 33, 4, 9),
    P(1, 1, 1, 1),
    P(16, 40, 9, 11, stride=(2, 2)),
    P(65, 17, 9, 8, stride=(3, 2), padding=(0, 1, 2, 1)),
    P(24, 16, 13, 12, dilation=(2, 3), padding=(2, 3, 2, 3)),
    P(16, 20, 3, 2, kernel=(5, 7), padding=(2, 3, 2, 3)),
    P(16, 8, 2, 2, kernel=(7, 7), padding=(6, 6, 6, 6)),
    P(64, 32, 8, 8, kernel=(8, 8), stride=(8, 8), padding=(0, 0, 0, 0)),
    P(32, 24, 8, 12, kernel=(2, 2), stride=(2, 2), padding=(0, 0, 0, 0)),
    P(72, 48, 9, 9, kernel=(1, 1), stride=(2, 2), padding=(0,) * 4),
    P(80, 64, 1, 37, kernel=(1, 3), padding=(0, 1, 0, 1)),
    P(64, 64, 1, 37, kernel=(1, 3), stride=(1, 2), padding=(0, 1, 0, 1)),
    P(48, 48, 6, 6, groups=3),
    P(64, 32, 7, 7, groups=4, stride=(2, 2)),
    P(20, 30, 5, 5, groups=10),
    P(16, 24, 9, 7, gap=5),
    P(80, 24, 9, 7, gap=3, batch=2),
    *(P(16, 24, 9, 7, batch=n, symbolic=True) for n in (0, 1, 2, 3)),
    P(80, 33, 9, 8, batch=2, symbolic=True, stride=(2, 2)),
    P(16, 24, 9, 7, padding=(2, 0, 0, 3)),
    *(P(16, 16, 1, n, kernel=(1, 1), padding=(0, 0, 0, 0), symbolic=True) for n in (1, 5, 6, 7, 11, 13, 200)),
    P(24, 37, 9, 8, weight_type=DType.bfloat16),
    P(64, 48, 7, 7, groups=2, stride=(2, 2), weight_type=DType.float16),
)
WINOGRAD = (
    P(16, 16, 8, 8),
    P(16, 24, 9, 7, padding=(0, 1, 2, 0)),
    P(20, 13, 6, 11, batch=2),
    P(8, 8, 1, 1),
    P(16, 16, 2, 3, padding=(2, 2, 2, 2)),
    P(128, 64, 14, 14),
    P(64, 64, 33, 30, gap=2),
    *(P(16, 40, h, w, batch=n, symbolic=True) for n, h, w in ((0, 8, 9), (1, 1, 1), (3, 12, 9), (1, 24, 25))),
    P(256, 256, 7, 7),
    P(64, 64, 28, 28, batch=2),
    P(16, 24, 1, 37, kernel=(1, 3), padding=(0, 1, 0, 1)),
    P(20, 16, 5, 300, kernel=(1, 3), padding=(0, 0, 0, 2)),
    P(3, 16, 30, 31, kernel=(7, 7), stride=(2, 2), padding=(3, 3, 3, 3), planar=True),
    P(1, 9, 5, 7, kernel=(7, 7), stride=(2, 2), padding=(3, 2, 3, 3), planar=True),
    P(4, 8, 2, 2, kernel=(7, 7), stride=(2, 2), padding=(6, 6, 6, 6), planar=True),
    P(3, 24, 50, 70, kernel=(5, 5), stride=(2, 2), padding=(1, 2, 2, 2), planar=True, batch=2),
    P(32, 24, 13, 15, stride=(2, 2)),
    P(16, 16, 1, 41, kernel=(1, 3), stride=(1, 2), padding=(0, 1, 0, 1)),
    P(16, 16, 11, 12, kernel=(5, 5), padding=(2, 2, 2, 2)),
    P(24, 16, 12, 21, kernel=(7, 7), stride=(2, 2), padding=(3, 3, 3, 3)),
    P(20, 24, 1, 50, kernel=(1, 3), padding=(0, 1, 0, 1), planar=True),
    P(8, 16, 11, 5, kernel=(1, 3), stride=(2, 2), padding=(0, 1, 0, 1)),
    P(64, 128, 28, 28, stride=(2, 2)),
    P(3, 16, 30, 290, kernel=(7, 7), stride=(2, 2), padding=(3, 3, 3, 3), planar=True, batch=2, symbolic=True),
)
PLANAR = (
    P(3, 16, 12, 13, kernel=(7, 7), stride=(2, 2), padding=(3, 3, 3, 3), planar=True),
    P(3, 24, 9, 9, stride=(2, 2), planar=True),
    P(3, 32, 16, 16, kernel=(4, 4), stride=(4, 4), padding=(0, 0, 0, 0), planar=True),
    P(4, 17, 11, 8, planar=True, batch=2),
    P(3, 40, 33, 34, kernel=(16, 16), stride=(16, 16), padding=(0, 0, 0, 0), planar=True),
    P(1, 1, 1, 2, planar=True),
    P(2, 9, 3, 2, kernel=(7, 7), padding=(5, 6, 4, 3), planar=True),
    P(3, 16, 12, 13, planar=True, batch=2, symbolic=True, stride=(2, 2)),
    P(3, 16, 12, 300, planar=True, stride=(2, 2), symbolic=True, dilation=(2, 2)),
    P(80, 24, 1, 150, kernel=(1, 3), padding=(0, 1, 0, 1), planar=True),
    P(3, 8, 40, 270, planar=True, padding=(0, 2, 1, 0)),
    P(3, 16, 8, 8, planar=True, batch=0),
    P(3, 40, 16, 16, kernel=(4, 4), stride=(4, 4), padding=(0, 0, 0, 0), planar=True, weight_type=DType.bfloat16),
    P(4, 17, 11, 8, planar=True, batch=2, weight_type=DType.float16),
)
DEPTHWISE = tuple(
    replace(p, groups=p.channels)
    for p in (
        P(8, 8, 9, 11),
        P(24, 24, 7, 7),
        P(11, 11, 8, 5, batch=2),
        P(1 + 2, 3, 1, 1),
        P(32, 32, 9, 13, stride=(2, 2)),
        P(16, 16, 14, 14, batch=3),
        P(40, 40, 7, 9, kernel=(5, 5), padding=(2, 2, 2, 2)),
        P(13, 13, 9, 12, kernel=(5, 5), stride=(2, 2), padding=(1, 1, 2, 2)),
        P(24, 24, 7, 15, kernel=(7, 7), padding=(3, 3, 3, 3)),
        P(16, 16, 3, 2, kernel=(7, 7), padding=(3, 3, 3, 3)),
        P(8, 8, 12, 13, dilation=(2, 3), padding=(2, 3, 2, 3)),
        P(8, 8, 9, 9, kernel=(2, 3), stride=(3, 4), padding=(0, 0, 0, 1)),
        P(8, 8, 9, 9, kernel=(1, 1), stride=(2, 3), padding=(0, 0, 0, 0)),
        P(16, 16, 1, 40, kernel=(1, 31), padding=(0, 15, 0, 15)),
        P(12, 24, 7, 6),
        P(5, 15, 6, 9, stride=(2, 2)),
        P(16, 16, 9, 7, gap=3),
        P(16, 16, 9, 7, batch=0),
        P(20, 20, 9, 14, batch=2, symbolic=True),
        P(200, 200, 6, 5, kernel=(7, 7), padding=(3, 3, 3, 3)),
        *(P(8, 8, n, n, symbolic=True) for n in (1, 2, 3, 4, 5, 6, 8, 10)),
    )
)


SANITIZED = (
    P(65, 37, 9, 8, stride=(2, 2), weight_type=DType.bfloat16),
    P(3, 5, 7, 9),
    P(65, 17, 9, 8, stride=(3, 2), padding=(0, 1, 2, 1)),
    P(20, 30, 5, 5, groups=10),
    P(16, 24, 9, 7, batch=2, symbolic=True),
    P(20, 13, 6, 11, batch=2),
    P(16, 40, 12, 9, batch=3, symbolic=True),
    P(1, 9, 5, 7, kernel=(7, 7), stride=(2, 2), padding=(3, 2, 3, 3), planar=True),
    P(3, 16, 30, 31, kernel=(7, 7), stride=(2, 2), padding=(3, 3, 3, 3), planar=True),
    P(3, 40, 33, 34, kernel=(16, 16), stride=(16, 16), padding=(0, 0, 0, 0), planar=True),
    P(3, 16, 12, 13, planar=True, batch=2, symbolic=True, stride=(2, 2)),
    *(
        replace(p, groups=p.channels)
        for p in (
            P(11, 11, 8, 5, batch=2),
            P(13, 13, 9, 12, kernel=(5, 5), stride=(2, 2), padding=(1, 1, 2, 2)),
            P(16, 16, 3, 2, kernel=(7, 7), padding=(3, 3, 3, 3)),
            P(5, 15, 6, 9, stride=(2, 2)),
        )
    ),
)
