"""Scaled dot product attention: the block of queries for attention.h, its scratch and its cost.

A block's scores should stay in L2 beside the panels that stream past; more queries a block mean fewer passes over keys
and values.
"""

from __future__ import annotations

from dataclasses import dataclass

from neve.build.target import Target
from neve.ir.index import Index
from neve.kernels.kernel import Choice, Macro, Size

MAX_BLOCK = 96
"""Queries a block at most (attention.h takes 128); causal ones 24, as all compute the keys of the last query."""
EXP_SECONDS = 0.32e-9
"""Softmax, a score, on 8 lanes."""


@dataclass(frozen=True)
class Strides:
    """Element strides of an operand over batch, (key-value) head and row; 1 along the last dim."""

    batch: Size
    head: Size
    row: Size


@dataclass(frozen=True)
class Mask:
    """A mask over (batch, head, query, key): kind "float" is added to the scores, "bool" has bytes, 0 = masked.

    Strides are elements, 0 to broadcast; key is 0 or 1.
    """

    kind: str
    batch: Size
    head: Size
    query: Size
    key: int = 1

    def __post_init__(self) -> None:
        if self.kind not in ("float", "bool") or self.key not in (0, 1):
            raise ValueError(f"no mask of kind {self.kind!r} with key stride {self.key}")


@dataclass(frozen=True)
class AttentionSpec:
    """O[b, h, q, d] = softmax(scale · Q Kᵀ + mask) V with `heads` query heads over heads / group heads of K and V.

    Operands p[0] = Q, p[1] = K, p[2] = V, p[3] = mask if any. scale None is 1 / sqrt(dim). With causal, query q sees
    the keys 0..q + offset. keys_bound and queries_bound bound symbolic sizes: scratch is sized for keys_bound. Raises
    ValueError where a bound is missing or group does not divide heads.
    """

    batch: Size
    heads: int
    queries: Size
    keys: Size
    dim: int
    value_dim: int
    q: Strides
    k: Strides
    v: Strides
    group: int = 1
    scale: float | None = None
    mask: Mask | None = None
    causal: bool = False
    offset: Size = 0
    keys_bound: int = 0
    queries_bound: int = 0

    def __post_init__(self) -> None:
        if not isinstance(self.keys, int) and not self.keys_bound:
            raise ValueError("a symbolic number of keys needs keys_bound")
        if self.group < 1 or self.heads % self.group:
            raise ValueError(f"{self.heads} query heads are no multiple of the group {self.group}")


def scratch_bytes(keys: int, dim: int, value_dim: int, block: int, vl: int) -> int:
    """attention.h's KN(scratch)."""
    panel = 2 * vl
    padded = -(-keys // panel) * panel
    return 4 * (padded * (dim + -(-value_dim // panel) * panel) + block * (padded + 16 + dim + 1))


def symbolic_scratch(keys: Index, spec: AttentionSpec, choice: Choice, vl: int) -> Index:
    """`scratch_bytes`, at least, for a number of keys that only the run knows."""
    block, panel = dict(choice.macros)["ATT_BLOCK"], 2 * vl
    assert isinstance(block, int)
    padded = (keys + (panel - 1)) // Index.of(panel) * panel
    return (padded * (spec.dim + -(-spec.value_dim // panel) * panel) + (padded + (16 + spec.dim + 1)) * block) * 4


def tile_rows(queries: Size, block: int) -> int:
    """A bit mask of the rows of attention.h's tiles for so many queries: it cuts blocks, and tiles in them, evenly."""
    if not isinstance(queries, int):
        return 0b1111110
    blocks = max(1, -(-queries // block))
    mask = 0
    for n in {(i + 1) * queries // blocks - i * queries // blocks for i in range(blocks)}:
        groups = -(-n // 6)
        for g in range(groups):
            mask |= 1 << ((g + 1) * n // groups - g * n // groups)
    return mask


def candidates(spec: AttentionSpec, target: Target) -> list[Choice]:
    """The choices for spec, the best first: blocks whose scores fill about half of L2, then half and twice as large."""
    keys = spec.keys if isinstance(spec.keys, int) else spec.keys_bound
    queries = spec.queries if isinstance(spec.queries, int) else spec.queries_bound or keys
    batch = spec.batch if isinstance(spec.batch, int) else 1
    best = max(6, min(24 if spec.causal else MAX_BLOCK, target.l2 // 2 // (4 * max(1, keys)) // 6 * 6))
    scale = spec.scale if spec.scale is not None else spec.dim**-0.5
    mask = spec.mask or Mask("float", 0, 0, 0, 0)
    flops = 2.0 * batch * spec.heads * queries * keys * (spec.dim + spec.value_dim)
    seen = 0.5 if spec.causal else 1.0
    seconds = seen * (flops / (0.92 * target.flops) + batch * spec.heads * queries * keys * EXP_SECONDS * 8 / target.vl)
    packing = 4.0 * batch * spec.heads * keys * (spec.dim + spec.value_dim) * 2 / target.bandwidth
    choices = []
    for block in dict.fromkeys((best, max(6, best // 12 * 6), min(MAX_BLOCK, 2 * best))):
        macros: tuple[tuple[str, Macro], ...] = (
            ("ATT_B", spec.batch),
            ("ATT_H", spec.heads),
            ("ATT_SQ", spec.queries),
            ("ATT_SK", spec.keys),
            ("ATT_D", spec.dim),
            ("ATT_DV", spec.value_dim),
            ("ATT_GROUP", spec.group),
            ("ATT_QB", spec.q.batch),
            ("ATT_QH", spec.q.head),
            ("ATT_QS", spec.q.row),
            ("ATT_KB", spec.k.batch),
            ("ATT_KH", spec.k.head),
            ("ATT_KS", spec.k.row),
            ("ATT_VB", spec.v.batch),
            ("ATT_VH", spec.v.head),
            ("ATT_VS", spec.v.row),
            ("ATT_SCALE", scale),
            ("ATT_MASK", 0 if spec.mask is None else 1 if mask.kind == "float" else 2),
            ("ATT_MB", mask.batch),
            ("ATT_MH", mask.head),
            ("ATT_MQ", mask.query),
            ("ATT_MK", mask.key),
            ("ATT_CAUSAL", int(spec.causal)),
            ("ATT_OFFSET", spec.offset),
            ("ATT_BLOCK", block),
            ("ATT_ROWS", tile_rows(spec.queries, block)),
        )
        passes = -(-queries // block)
        streaming = 4.0 * batch * spec.heads * passes * keys * (spec.dim + spec.value_dim) / target.bandwidth * 0.2
        choices.append(
            Choice(
                "attention/attention.h",
                f"attention, {block} queries a block",
                macros,
                None,
                scratch_bytes(keys, spec.dim, spec.value_dim, block, target.vl),
                0,
                seconds + packing + streaming,
            )
        )
    return choices
