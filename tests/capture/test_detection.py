"""torchvision's ops for detectors. Where it is not installed, ops of its names and schemas stand for it, written out
from its C++ (torchvision/csrc/ops/cpu), with fake implementations that ask torch for lengths as its own do.
"""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.export import Dim

import neve
from neve.errors import CaptureError, InputError

N = Dim("n", min=0, max=200)
SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "roi_align(Tensor input, Tensor rois, float scale, SymInt h, SymInt w, int ratio, bool aligned) -> Tensor",
)


def suppressed(boxes: torch.Tensor, scores: torch.Tensor, threshold: float) -> torch.Tensor:
    order = scores.sort(stable=True, descending=True)[1].tolist()
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    keep: list[int] = []
    for i in order:
        overlap = [
            (torch.minimum(boxes[i, 2:], boxes[j, 2:]) - torch.maximum(boxes[i, :2], boxes[j, :2])).clamp(min=0).prod()
            for j in keep
        ]
        if not any(float(o / (area[j] + area[i] - o)) > threshold for j, o in zip(keep, overlap, strict=True)):
            keep.append(i)
    return torch.tensor(keep, dtype=torch.int64)


def windows(
    x: torch.Tensor, rois: torch.Tensor, scale: float, height: int, width: int, ratio: int, aligned: bool
) -> torch.Tensor:
    made = x.new_zeros(len(rois), x.shape[1], height, width)
    for k, roi in enumerate(rois.double()):
        start = roi[1:3] * scale - 0.5 * aligned
        size = roi[3:5] * scale - 0.5 * aligned - start
        size = size if aligned else size.clamp(min=1)
        for r in range(height):
            for c in range(width):
                for i in range(ratio * ratio):
                    place = [(r, i // ratio, height), (c, i % ratio, width)]
                    at = [
                        float(start[1 - a] + (p + (s + 0.5) / ratio) * size[1 - a] / n)
                        for a, (p, s, n) in enumerate(place)
                    ]
                    made[k, :, r, c] += sampled(x[int(roi[0])], *at) / ratio**2
    return made


def sampled(image: torch.Tensor, y: float, x: float) -> Any:
    height, width = image.shape[1:]
    if not (-1 <= y <= height and -1 <= x <= width):
        return 0.0
    total: Any = 0.0
    corners = []
    for at, n in ((max(y, 0.0), height), (max(x, 0.0), width)):
        low = min(int(at), n - 1)
        part = at - low if low < n - 1 else 0.0
        corners.append(((low, 1 - part), (min(low + 1, n - 1), part)))
    for i, u in corners[0]:
        for j, v in corners[1]:
            total = total + u * v * image[:, i, j]
    return total


@pytest.fixture(scope="module", autouse=True)
def torchvision_ops() -> Any:
    """torchvision's own ops, or the stand-ins while these tests run."""
    if importlib.util.find_spec("torchvision") is not None:
        import torchvision  # noqa: F401

        yield
        return
    library = torch.library.Library("torchvision", "DEF")
    for schema in SCHEMAS:
        library.define(schema)
    library.impl("nms", suppressed, "CPU")
    library.impl("roi_align", windows, "CPU")

    def fake_nms(boxes: torch.Tensor, scores: torch.Tensor, threshold: float) -> torch.Tensor:
        return boxes.new_empty(torch.library.get_ctx().create_unbacked_symint(), dtype=torch.int64)

    def fake_windows(x: torch.Tensor, rois: torch.Tensor, scale: float, height: int, width: int, *_: Any) -> Any:
        return x.new_empty(rois.shape[0], x.shape[1], height, width)

    torch.library.register_fake("torchvision::nms", fake_nms, lib=library)
    torch.library.register_fake("torchvision::roi_align", fake_windows, lib=library)
    yield
    library._destroy()


class Calls(nn.Module):
    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *args: torch.Tensor) -> Any:
        return self.function(*args)


def boxes_of(n: int, scores: int = 0, dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, torch.Tensor]:
    """Boxes and their scores, of which there are so many (0: all different)."""
    g = torch.Generator().manual_seed(n)
    corner, size = torch.rand(n, 2, generator=g, dtype=dtype) * 4, torch.rand(n, 2, generator=g, dtype=dtype) * 2 + 0.2
    given = torch.rand(n, generator=g, dtype=dtype)
    return torch.cat([corner, corner + size], 1), (given * scores).round() if scores else given


def equal(module: Any, model: nn.Module, args: tuple[torch.Tensor, ...]) -> None:
    got, want = module(*args), model(*args)
    for g, w in zip(*((v,) if isinstance(v, torch.Tensor) else v for v in (got, want)), strict=True):
        torch.testing.assert_close(g, w, rtol=0, atol=0 if not w.is_floating_point() else 1e-5)


@pytest.mark.parametrize(("threshold", "scores", "dtype"), [(0.5, 0, torch.float32), (0.1, 3, torch.float64)])
def test_suppression(threshold: float, scores: int, dtype: torch.dtype) -> None:
    """None, one and many boxes; equal scores keep their order."""
    model = Calls(lambda b, s: torch.ops.torchvision.nms(b, s, threshold)).eval()
    module = neve.compile(model, boxes_of(20, scores, dtype), dynamic_shapes=((({0: N}, {0: N}),)), verify=False)
    for n in (0, 1, 2, 20, 57, 200):
        equal(module, model, boxes_of(n, scores, dtype))


def test_a_detectors_last_steps() -> None:
    """Boxes that data choose are suppressed, and the best of them returned; verified by compile as well."""

    def detect(boxes: torch.Tensor, scores: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        boxes, scores = boxes[scores > 0.3], scores[scores > 0.3]
        keep = torch.ops.torchvision.nms(boxes, scores, 0.5)
        return boxes[keep], scores[keep]

    model = Calls(detect).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        module = neve.compile(model, boxes_of(20), dynamic_shapes=((({0: N}, {0: N}),)))
    for n in (0, 1, 20, 60):
        equal(module, model, boxes_of(n))


@pytest.mark.parametrize("aligned", [True, False])
def test_windows(aligned: bool) -> None:
    """Boxes that lie in the image, at its edge, outside, and are empty."""

    def given(n: int) -> tuple[torch.Tensor, torch.Tensor]:
        g = torch.Generator().manual_seed(n)
        boxes = boxes_of(n)[0] * 14 - 6
        boxes[: n // 3, 2:] = boxes[: n // 3, :2]
        number = torch.randint(2, (n, 1), generator=g).float()
        return torch.randn(2, 3, 9, 11, generator=g), torch.cat([number, boxes], 1)

    model = Calls(lambda x, r: torch.ops.torchvision.roi_align(x, r, 0.25, 3, 2, 2, aligned)).eval()
    module = neve.compile(model, given(6), dynamic_shapes=((({}, {0: N}),)), verify=False)
    for n in (0, 1, 6, 9):
        equal(module, model, given(n))
    with pytest.raises(InputError, match="roi_align: an index is out of range"):
        module(given(6)[0][:, :, :, :], torch.full((1, 5), 2.0))


def test_what_is_refused() -> None:
    model = Calls(lambda x, r: torch.ops.torchvision.roi_align(x, r, 1.0, 3, 2, -1, True)).eval()
    with pytest.raises(CaptureError, match="pass sampling_ratio=2"):
        neve.compile(model, (torch.rand(1, 2, 4, 4), torch.rand(3, 5)), verify=False)
    half = Calls(lambda b, s: torch.ops.torchvision.nms(b, s, 0.5)).eval()
    with pytest.raises(CaptureError, match=r"give it boxes.float\(\)"):
        neve.compile(half, boxes_of(4, dtype=torch.float16), verify=False)
