"""Convolution problems: inputs, a float64 reference, and the C source of a kernel instance."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from neve.build.target import AVX2, Target
from neve.ir.types import DType, round_to
from neve.kernels.conv.spec import ConvSpec
from neve.kernels.kernel import Choice, Size
from tests.kernels.harness import S, defines, in_c

HEAD = '#include "rt.h"\n#include "vec.h"\n'
STORE = """
NEVE_INLINE float *{name}_at(void *const *p, const int64_t *s, int64_t n, int64_t oh, int64_t ow, int64_t oc)
{{ (void)s; return (float *)p[2] + ((n * ({oh}) + oh) * ({ow}) + ow) * {oc} + oc; }}
NEVE_INLINE void {name}_put(void *const *p, const int64_t *s, vf v, int64_t n, int64_t oh, int64_t ow, int64_t oc)
{{ float *to = {name}_at(p, s, n, oh, ow, oc); vstore(to, {sum}); }}
NEVE_INLINE void {name}_put_n(void *const *p, const int64_t *s, vf v, int cnt,
                             int64_t n, int64_t oh, int64_t ow, int64_t oc)
{{ float *to = {name}_at(p, s, n, oh, ow, oc); vstore_n(to, {sum_n}, cnt); }}
#define KN(x) {name}_##x
#define K_STORE(v, n, oh, ow, oc) {name}_put(p, s, v, n, oh, ow, oc)
#define K_STORE_N(v, cnt, n, oh, ow, oc) {name}_put_n(p, s, v, cnt, n, oh, ow, oc)
"""


@dataclass(frozen=True)
class Problem:
    """One convolution; padding is (top, left, bottom, right). planar: x is NCHW. gap: extra channels between pixels."""

    channels: int
    out_channels: int
    height: int
    width: int
    kernel: tuple[int, int] = (3, 3)
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (1, 1, 1, 1)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    batch: int = 1
    planar: bool = False
    gap: int = 0
    symbolic: bool = False
    weight_type: DType = DType.float32

    def out(self) -> tuple[int, int]:
        """Output height and width."""
        t, left, b, r = self.padding
        h = (self.height + t + b - self.dilation[0] * (self.kernel[0] - 1) - 1) // self.stride[0] + 1
        w = (self.width + left + r - self.dilation[1] * (self.kernel[1] - 1) - 1) // self.stride[1] + 1
        return h, w

    def sizes(self) -> tuple[int, ...]:
        """s[]: batch, height, width, output height and width."""
        return (self.batch, self.height, self.width, *self.out())

    def spec(self) -> ConvSpec:
        """What the templates are asked for."""
        c, pixel = self.channels, self.channels + self.gap
        sizes: tuple[Size, ...] = S if self.symbolic else self.sizes()
        n, h, w, oh, ow = sizes

        strides: tuple[Size, Size, Size, Size] = (h * w * pixel, 1, w * pixel, pixel)
        if self.planar:
            strides = (h * w * c, h * w, w, 1)
        return ConvSpec(
            n, c, h, w, self.out_channels, oh, ow, self.kernel, strides,
            self.stride, self.padding[:2], self.dilation, self.groups, self.weight_type,
        )  # fmt: skip

    def arrays(self, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """x, logically (N, C, H, W) but laid out as the problem says, and the torch weight."""
        rng = np.random.default_rng(seed)
        n, c, h, w = self.batch, self.channels, self.height, self.width
        weight = rng.standard_normal((self.out_channels, c // self.groups, *self.kernel))
        weight = round_to(weight, self.weight_type).astype(np.float32)
        if self.planar:
            return rng.standard_normal((n, c, h, w)).astype(np.float32), weight
        wide = np.full((n, h, w, c + self.gap), np.nan, np.float32)
        wide[..., :c] = rng.standard_normal((n, h, w, c))
        return wide.transpose(0, 3, 1, 2)[:, :c], weight


def reference(problem: Problem, x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """The convolution in float64, (N, OH, OW, OC)."""
    t, left, b, r = problem.padding
    (oh, ow), (sh, sw), (dh, dw), g = problem.out(), problem.stride, problem.dilation, problem.groups
    padded = np.pad(x.astype(np.float64), ((0, 0), (0, 0), (t, b), (left, r)))
    n, c = x.shape[:2]
    out = np.zeros((n, oh, ow, g, problem.out_channels // g))
    taps = weight.astype(np.float64).reshape(g, -1, c // g, *problem.kernel)
    for i in range(problem.kernel[0]):
        for j in range(problem.kernel[1]):
            part = padded[:, :, i * dh : i * dh + (oh - 1) * sh + 1 : sh, j * dw : j * dw + (ow - 1) * sw + 1 : sw]
            out += np.einsum("ngchw,goc->nhwgo", part.reshape(n, g, c // g, oh, ow), taps[..., i, j])
    return out.reshape(n, oh, ow, problem.out_channels)


def source(name: str, spec: ConvSpec, choice: Choice, accumulate: bool = False) -> str:
    """The instance `name_run`, which stores to p[2] (with accumulate it adds, so that a second store would show)."""
    text = STORE.format(
        name=name,
        oh=in_c(spec.out_height),
        ow=in_c(spec.out_width),
        oc=spec.out_channels,
        sum="vload(to) + v" if accumulate else "v",
        sum_n="vload_n(to, cnt) + v" if accumulate else "v",
    )
    return f'{text}{defines(choice.macros)}#include "{choice.header}"\n'


def target() -> Target:
    """What the tests compile for."""
    return AVX2
