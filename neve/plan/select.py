"""Selection: which kernels can compute an op, or why none does and it runs as plain loops."""

from __future__ import annotations

from collections.abc import Sequence

from neve.ir.index import Index
from neve.ir.loops import Tensor
from neve.kernels import KERNELS
from neve.kernels.kernel import Bound, Call, Fixed, Kernel, Operands, Shaped
from neve.ops.base import Op


def kernel_of(op: Op) -> Kernel | None:
    """The kernel that decides on the operands of ops of that name."""
    return next((k for k in KERNELS if op.name in k.ops), None)


def refusal(op: Op, inputs: Sequence[Tensor], fixed: Fixed) -> str:
    """Why no kernel takes the op on these operands; "" if one does."""
    kernel = kernel_of(op)
    return kernel.accepts(op, inputs, fixed) if kernel is not None else f"there is no kernel for {op.name}"


def packs(op: Op, inputs: Sequence[Shaped]) -> tuple[int, ...]:
    """The positions of the operands that the op's kernel packs if they are constants."""
    kernel = kernel_of(op)
    return kernel.packs(op, inputs) if kernel is not None else ()


def bind(call: Call, operands: Operands) -> tuple[Bound, ...]:
    """How a call that is not refused may run: one `Bound` a kernel, that of least cost first."""
    named = [k for k in KERNELS if call.op.name in k.ops]
    accept = named
    if len(named) > 1:  # what a recurrent layer is called with are not the operands that its kernel was asked about
        accept = [k for k in named if not k.accepts(call.op, call.inputs, lambda t: operands.array(t) is not None)]
    bounds = [b for b in (k.bind(call, operands) for k in accept) if b is not None]
    assert bounds, f"no kernel for {call.op.name}"
    return tuple(sorted(bounds, key=lambda b: b.choices[0].cost))


def flops(op: Op, inputs: Sequence[Shaped], results: Sequence[Shaped]) -> Index:
    """Multiplications and additions of an op that kernels compute, 0 for any other."""
    kernel = kernel_of(op)
    return kernel.flops(op, inputs, results) if kernel is not None else Index.of(0)


def takes_factor(call: Call) -> bool:
    """Whether the call's kernel can multiply inputs[0] by one factor a channel."""
    kernel = kernel_of(call.op)
    return kernel is not None and kernel.takes_factor(call)
