"""Convolutions over two axes: a product where the kernel is one pixel, else one of the kernels of this folder."""

from __future__ import annotations

import math
from collections.abc import Sequence

from neve.ir.buffers import Access
from neve.ir.index import Index, Var
from neve.ir.loops import Tensor
from neve.kernels.conv.direct import candidates
from neve.kernels.conv.spec import ConvSpec
from neve.kernels.gemm.plan import bind_pixels
from neve.kernels.kernel import (
    COMPUTED,
    Bound,
    Call,
    Fixed,
    Kernel,
    Operands,
    Packed,
    Pointer,
    Shaped,
    at,
    product,
    size,
    weights,
)
from neve.ops.base import Op
from neve.ops.conv import Conv

FLOPS_PER_TERM = 2
FEW_CHANNELS = 4
"""Of an image that is read where it is, channel by channel."""
LEAST_PIXELS = 16
"""Below, a pass over the image costs less than one over the weights."""
PACKED_PIXELS = 8
"""Below, packing weights that are no constants takes longer than plain loops gain by it."""
CHANNELS_LAST = (0, 2, 3, 1)


def accepts(op: Op, inputs: Sequence[Tensor], fixed: Fixed) -> str:
    """Numbers that float32 holds, and weights that are constants or worth packing in each call."""
    x, w = inputs[:2]
    if x.dtype not in COMPUTED:
        return f"there is no convolution of {x.dtype}"
    pixels = math.prod(d if isinstance(d, int) else PACKED_PIXELS for k, d in enumerate(x.shape) if k != 1)
    if fixed(w) or pixels >= PACKED_PIXELS:
        return ""
    return f"its weights are no constants, and {pixels} pixels too few to pack them in each call"


def flops(op: Op, inputs: Sequence[Shaped], results: Sequence[Shaped]) -> Index:
    return product(results[0].shape) * product(inputs[1].shape[1:]) * FLOPS_PER_TERM


def bind(call: Call, o: Operands) -> Bound:
    """x (N, C, H, W) and w (OC, C/g, KH, KW)."""
    w, out = call.inputs[1], call.results[0]
    x = image_of(call, o)
    unit = x.stride(1) == 1 or x.vars[1].extent.const == 1
    lda = x.collapsed((0, 2, 3))
    if by_pixel(call) and lda is not None and unit:
        return bind_pixels(call, x, lda, o)
    assert call.factor is None
    n, h, wide, c = (Var(name, Index.of(out.shape[k])) for name, k in (("n", 0), ("h", 2), ("w", 3), ("c", 1)))
    spec = conv_spec(call, x)
    pointers = Pointer(x.buffer, x.start), Packed(w)
    return Bound(tuple(candidates(spec, o.target)), pointers, (n, h, wide, c), (at(n), at(c), at(h), at(wide)))


def conv_of(call: Call) -> Conv:
    """The op of a call."""
    assert isinstance(call.op, Conv)
    return call.op


def conv_spec(call: Call, x: Access) -> ConvSpec:
    """What is asked of the kernels for a call whose image lies so."""
    op = conv_of(call)
    image, w = call.inputs
    out = call.results[0]
    strides = [s if s is not None else Index.of(0) for s in x.strides]
    if x.vars[1].extent.const == 1 and not (_few_channels(call) and x.stride(3) == 1):
        strides[1] = Index.of(1)
    sn, sc, sh, sw = map(size, strides)
    return ConvSpec(
        batch=size(Index.of(image.shape[0])),
        channels=int(image.shape[1]),
        height=size(Index.of(image.shape[2])),
        width=size(Index.of(image.shape[3])),
        out_channels=int(w.shape[0]),
        out_height=size(Index.of(out.shape[2])),
        out_width=size(Index.of(out.shape[3])),
        kernel=(int(w.shape[2]), int(w.shape[3])),
        stride=(op.stride[0], op.stride[1]),
        dilation=(op.dilation[0], op.dilation[1]),
        padding=(op.padding[0][0], op.padding[1][0]),
        groups=op.groups,
        strides=(sn, sc, sh, sw),
        weight_type=w.dtype,
    )


def _few_channels(call: Call) -> bool:
    op = conv_of(call)
    channels = call.inputs[0].shape[1]
    return isinstance(channels, int) and channels <= FEW_CHANNELS and op.groups == 1


def image_of(call: Call, o: Operands) -> Access:
    """x with the strides that a kernel takes: 1 over channels, or over columns if there are few channels."""
    image = call.inputs[0]
    x = o.access(image)
    if call.factor is not None and (x.stride(1) != Index.of(1) or x.collapsed((0, 2, 3)) is None):
        x = o.copy(image, CHANNELS_LAST)
    planar = _few_channels(call) and x.stride(3) == 1
    if None in x.strides or (x.stride(1) != 1 and x.vars[1].extent.const != 1 and not planar):
        x = o.copy(image, CHANNELS_LAST)
    return x


def by_pixel(call: Call) -> bool:
    """Whether each output pixel is a product with the input pixel at its place."""
    op = conv_of(call)
    plain = op.stride == (1, 1) and op.groups == 1 and not any(map(any, op.padding))
    return tuple(call.inputs[1].shape[2:]) == (1, 1) and plain


def takes_factor(call: Call) -> bool:
    """A 1×1 convolution of many pixels, whose weights all groups share, and which has no factor yet."""
    pixels = 1
    for k, d in enumerate(call.results[0].shape):
        if k != 1:
            pixels *= d if isinstance(d, int) else LEAST_PIXELS
    return call.factor is None and by_pixel(call) and pixels >= LEAST_PIXELS


CONV = Kernel(ops=("convolution",), accepts=accepts, bind=bind, flops=flops, takes_factor=takes_factor, packs=weights)
