from __future__ import annotations

from neve.ir.types import symbol
from neve.passes.cancel_transposes import PASS
from tests.passes.support import Build, check

s0 = symbol("s0")
THERE, BACK = (0, 2, 3, 1), (0, 3, 1, 2)


def test_around_pointwise_ops() -> None:
    def build(b: Build) -> object:
        x = b.op("permute", b.x(s0, 3, 4, 5), dims=THERE)
        return b.op("permute", b.op("add", b.op("mul", x, b.num(2.0)), b.rand(3)), dims=BACK)

    check(PASS, build, {"mul": 1, "add": 1, "permute": 1, "reshape": 1}, sizes={s0: 2})


def test_with_two_permuted_operands() -> None:
    def build(b: Build) -> object:
        x, y = (b.op("permute", b.x(2, 3, 4, 5), dims=THERE) for _ in range(2))
        return b.op("permute", b.op("sub", x, b.op("exp", y)), dims=BACK)

    check(PASS, build, {"exp": 1, "sub": 1})


def test_near_misses() -> None:
    def build(b: Build, form: int) -> object:
        x = b.op("permute", b.x(2, 3, 4, 5), dims=THERE)
        f = [b.op("add", x, b.x(2, 4, 5, 3)), b.op("add", x, b.x(3)), b.op("softmax", x, dim=3), b.op("exp", x)][form]
        out = b.op("permute", f, dims=BACK if form < 3 else (0, 1, 3, 2))
        return [out]

    for form in range(4):
        check(PASS, lambda b: build(b, form), None)  # noqa: B023

    def shared(b: Build) -> object:
        f = b.op("exp", b.op("permute", b.x(2, 3, 4, 5), dims=THERE))
        return [b.op("permute", f, dims=BACK), f]

    check(PASS, shared, None)
