"""Builders of torchvision's ops for detectors, as they are on a CPU: suppression of boxes, and windows of an image."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch

from neve.capture.aten import foreign
from neve.capture.aten_index import in_range
from neve.capture.aten_lengths import true_places
from neve.capture.context import Context, Refusal
from neve.errors import InputError
from neve.ir.graph import Value
from neve.ir.types import DType
from neve.ops.index import IndexSelect, IndexTensors
from neve.ops.pad import Cat
from neve.ops.reduce import All, Amax, Sum
from neve.ops.sort import Sort
from neve.ops.source import Arange
from neve.ops.suppress import Suppress


@foreign("torchvision::nms")
def nms(c: Context, boxes: Value, scores: Value, iou_threshold: float) -> Value:
    """The numbers of the boxes that stay, the best one first; equal scores stay in order."""
    _refuse_others(boxes, iou_threshold)
    return _kept(c, boxes, scores, iou_threshold, c.full(0, boxes.dtype, boxes.shape[:1]), False)


def _refuse_others(boxes: Value, threshold: float) -> None:
    if boxes.dtype not in (DType.float32, DType.float64) or not math.isfinite(threshold):
        raise Refusal(f"nms of {boxes.dtype} with the threshold {threshold}: give it boxes.float()")


def _kept(c: Context, boxes: Value, scores: Value, threshold: float, classes: Value, batched: bool) -> Value:
    n = boxes.shape[0]  # of many boxes torchvision sorts what stays by a sort that need not be stable
    stable = not batched or (isinstance(n, int) and n <= MANY)
    _, order = c.emit(Sort(0, descending=True, stable=stable), scores)
    rows = c(Cat(1), boxes, c.reshape(classes, (boxes.shape[0], 1)))
    stays = c(Suppress(float(threshold)), c.permute(c(IndexSelect(0), rows, order), (1, 0)))
    return c(IndexSelect(0), order, true_places(c, stays))


MANY = 1000
"""Of more boxes than this torchvision suppresses each class for itself, else all at once, moved apart by their class:
what is computed is rounded otherwise. Its code asks for their number, which data may decide.
"""
SCHEMA = "batched_nms(Tensor boxes, Tensor scores, Tensor idxs, float iou_threshold) -> Tensor"


def batched_nms(boxes: Any, scores: Any, idxs: Any, iou_threshold: float) -> Any:
    """torchvision.ops.batched_nms as an op; runs with the names of torchvision's module."""
    return torch.ops.neve.batched_nms(boxes, scores, idxs, iou_threshold)


@contextmanager
def batched_as_op() -> Iterator[None]:
    """While active torchvision's function, under whatever name a model has it, is the op."""
    there: Any = sys.modules.get("torchvision.ops.boxes")
    if there is None:
        yield
        return
    _define()
    before = there.batched_nms.__code__
    there.batched_nms.__code__ = batched_nms.__code__
    try:
        yield
    finally:
        there.batched_nms.__code__ = before


@cache
def _define() -> Any:
    library: Any = torch.library.Library("neve", "FRAGMENT")  # type: ignore[no-untyped-call]
    library.define(SCHEMA)

    def fake(boxes: torch.Tensor, *_: Any) -> torch.Tensor:
        return boxes.new_empty(torch.library.get_ctx().new_dynamic_size(), dtype=torch.int64)

    torch.library.register_fake("neve::batched_nms", fake, lib=library)
    return library


@foreign("neve::batched_nms")
def nms_of_classes(c: Context, boxes: Value, scores: Value, idxs: Value, iou_threshold: float) -> Value:
    _refuse_others(boxes, iou_threshold)
    n, classes = boxes.shape[0], c.cast(idxs, boxes.dtype)
    exact = c("eq", c.cast(classes, idxs.dtype), idxs)  # numbers that round to one would be one class
    wrong = c("logical_not", c(All((0,), False), exact))
    c.raise_if(wrong, f"{InputError.__name__}: batched_nms: a class is no number that {boxes.dtype} holds")
    least = c.full(-math.inf, boxes.dtype, (1,))
    most = c(Amax((0,), False), c(Cat(0), c.reshape(boxes, (4 * n,)), least))
    apart = c("mul", classes, c("add", most, c.full(1, boxes.dtype)))
    many = c("gt", c.tensor(n, DType.int64), c.full(MANY, DType.int64))
    moved = c("where", many, boxes, c("add", boxes, c.reshape(apart, (n, 1))))
    return _kept(c, moved, scores, iou_threshold, c("where", many, classes, c.full(0, boxes.dtype)), True)


@foreign("torchvision::roi_align")
def roi_align(
    c: Context,
    x: Value,
    rois: Value,
    spatial_scale: float,
    pooled_height: int,
    pooled_width: int,
    sampling_ratio: int,
    aligned: bool,
) -> Value:
    """Means of bilinear samples of x (B, C, H, W) in a grid over each box of rois (K, 5), (number, x1, y1, x2, y2)."""
    if sampling_ratio <= 0:
        raise Refusal(
            "roi_align with as many samples as the size of each box asks for: pass sampling_ratio=2, or another number"
        )
    if x.dtype not in (DType.float32, DType.float64):
        raise Refusal(f"roi_align of {x.dtype}: give it x.float() and rois.float()")
    k, channels = rois.shape[0], x.shape[1]
    number = c.cast(c.select(rois, 1, 0), DType.int64)
    in_range(c, number, x.shape[0], "roi_align", InputError.__name__)  # eager reads beyond its memory
    places, inside, parts = [], [], []
    for axis, bins in ((2, pooled_height), (3, pooled_width)):
        at = _samples(c, rois, axis, spatial_scale, bins, sampling_ratio, aligned)
        low, high, part, within = _neighbours(c, at, x.shape[axis])
        shape = (k, at.shape[1], 1) if axis == 2 else (k, 1, at.shape[1])
        places.append([c.reshape(v, shape) for v in (low, high)])
        parts.append(c.reshape(part, (*shape, 1)))
        inside.append(c.reshape(within, (*shape, 1)))
    corners = [
        [c(IndexTensors((0, 2, 3)), x, c.reshape(number, (k, 1, 1)), row, column) for column in places[1]]
        for row in places[0]
    ]
    made = _bilinear(c, corners, parts)
    made = c("where", c("logical_and", *inside), made, c.full(0, x.dtype))
    grid = (k, pooled_height, sampling_ratio, pooled_width, sampling_ratio, channels)
    total = c(Sum((2, 4)), c.reshape(made, grid))
    return c.permute(c("div", total, c.full(sampling_ratio**2, x.dtype)), (0, 3, 1, 2))


def _samples(c: Context, rois: Value, axis: int, scale: float, bins: int, ratio: int, aligned: bool) -> Value:
    """Where the samples of each box lie along an axis of the image: (K, bins * ratio)."""
    ends = [c("mul", c.slice(rois, 1, i, i + 1), c.full(scale, rois.dtype)) for i in (4 - axis, 6 - axis)]
    if aligned:
        ends = [c("sub", v, c.full(0.5, rois.dtype)) for v in ends]
    length = c("sub", ends[1], ends[0])
    if not aligned:
        length = c("maximum", length, c.full(1, rois.dtype))
    size = c("div", length, c.full(bins, rois.dtype))
    step = c(Arange(0, 1, bins * ratio, DType.int64))
    count = c.full(ratio, DType.int64)
    which, part = (c.cast(c(op, step, count), rois.dtype) for op in ("floor_divide", "remainder"))
    part = c("add", part, c.full(0.5, rois.dtype))
    within = c("div", c("mul", part, size), c.full(ratio, rois.dtype))
    return c("add", c("add", ends[0], c("mul", which, size)), within)


def _neighbours(c: Context, at: Value, size: object) -> tuple[Value, Value, Value, Value]:
    """The pixels before and behind a place, how far it is from the first, and whether it is in the image."""
    zero, one = c.full(0, at.dtype), c.full(1, at.dtype)
    last, whole = c("sub", c.tensor(size, DType.int64), c.full(1, DType.int64)), c.tensor(size, at.dtype)
    within = c("logical_and", c("ge", at, c.full(-1, at.dtype)), c("le", at, whole))
    at = c("where", within, c("maximum", at, zero), zero)
    low = c("minimum", c.cast(at, DType.int64), last)
    high = c("minimum", c("add", low, c.full(1, DType.int64)), last)
    part = c("minimum", c("sub", at, c.cast(low, at.dtype)), one)
    return low, high, c("where", c("lt", low, last), part, zero), within


def _bilinear(c: Context, corners: Sequence[Sequence[Value]], parts: Sequence[Value]) -> Value:
    """w1 p1 + w2 p2 + w3 p3 + w4 p4, in this order."""
    one = c.full(1, parts[0].dtype)
    rows, columns = ([c("sub", one, part), part] for part in parts)
    terms = [c("mul", c("mul", rows[i], columns[j]), corners[i][j]) for i in (0, 1) for j in (0, 1)]
    total = terms[0]
    for term in terms[1:]:
        total = c("add", total, term)
    return total
