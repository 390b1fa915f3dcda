"""torchvision's models through neve: `python -m tests.conformance.sweep_torchvision [NAME …] [--kind KIND] …`.

Random weights, evaluation mode, two random images; right: every float result within 1e-4 of its largest value, every
other equal. Needs torchvision, which loads beside its own release of torch alone: `make matrix` installs both.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from tests.conformance.pool import run_all, serve

TOLERANCE = 1e-4
KINDS = ("classification", "segmentation", "video", "detection")
ORDER = ("wrong", "crashed", "hung", "refused", "right")
SIDES = {"inception": 299}
"""Pixels of the images that a family takes, where it does not take 224 alone or any number."""


def names(kind: str) -> list[str]:
    import torchvision

    module = torchvision.models
    return list(torchvision.models.list_models(module=module if kind == KINDS[0] else getattr(module, kind)))


def families(found: list[str]) -> list[str]:
    """The smallest of each family, by the letters that the names begin with ("resnet" of resnet18 to resnet152)."""
    smallest: dict[str, str] = {}
    for name in sorted(found, key=parameters, reverse=True):
        smallest[re.match(r"[a-z]+(_v2|_v3|_x|_y)?", name)[0]] = name  # type: ignore[index]
    return list(smallest.values())


def parameters(name: str) -> int:
    import torchvision

    return int(next(iter(torchvision.models.get_model_weights(name))).meta["num_params"])


def made(name: str) -> Any:
    """The model with random weights, without downloads."""
    import torchvision

    plain = {"weights_backbone": None} if name in [*names("segmentation"), *names("detection")] else {}
    return torchvision.models.get_model(name, weights=None, **plain).eval()


def example(name: str, seed: int) -> tuple[Any, ...]:
    """The arguments of a call: images, a video for video models, a list of images for detection."""
    import torch

    g = torch.Generator().manual_seed(seed)
    side = next((s for prefix, s in SIDES.items() if name.startswith(prefix)), 224)
    kind = next(k for k in KINDS if name in names(k))
    if kind == "video":
        return (torch.randn(1, 3, 16, side, side, generator=g),)
    image = torch.rand(3, side, side, generator=g)
    return ([image],) if kind == "detection" else (image[None] * 2 - 1,)


def check(name: str) -> dict[str, Any]:
    import torch
    from torch.utils import _pytree as pytree

    import neve
    from tests.conformance.opdb_worker import agree, difference, numpy

    torch.manual_seed(0)
    model = made(name)
    calls = [example(name, seed) for seed in (1, 2)]
    try:
        module = neve.compile(model, calls[0], threads=1, verify=False)
        results = [pytree.tree_leaves(module(*call)) for call in calls]
    except neve.CaptureError as error:
        kind = "crashed" if "internal:" in str(error) else "refused"
        return {"class": kind, "detail": " | ".join(r.split("\n")[0] for r in error.reasons)[:300]}
    with torch.no_grad():
        wanted = [pytree.tree_leaves(model(*call)) for call in calls]
    worst = 0.0
    for got, eager in zip(results, wanted, strict=True):
        for g, w in zip(map(numpy, got), map(numpy, eager), strict=True):
            if g.shape != w.shape or not agree(g, w, TOLERANCE):
                return {"class": "wrong", "detail": difference(g, w) if g.shape == w.shape else f"{g.shape} {w.shape}"}
            if w.dtype.kind == "f" and w.size:
                worst = max(worst, float(abs(g - w).max() / max(abs(w).max(), 1e-30)))
    return {"class": "right", "detail": f"error {worst:.1e}"}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="models (default: all of the kind)")
    parser.add_argument("--kind", default=KINDS[0], choices=KINDS)
    parser.add_argument("--families", action="store_true", help="one model of each family")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--timeout", type=float, default=600.0)
    parser.add_argument(
        "--log", type=Path, help="file to which results are added; a sweep that stopped goes on from it"
    )
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        serve(check)
        return 0
    found = args.names or names(args.kind)
    found = families(found) if args.families else found
    counts: Counter[str] = Counter()
    for name, r in run_all(
        "tests.conformance.sweep_torchvision", ["--serve"], found, args.workers, args.timeout, args.log
    ):
        counts[r["class"]] += 1
        print(f"{r['class']:8} {name:40} {r['detail']}", flush=True)
    print("  ".join(f"{k}: {counts[k]}" for k in ORDER if counts[k]))
    return int(any(counts[k] for k in ORDER[:3]))


if __name__ == "__main__":
    sys.exit(main())
