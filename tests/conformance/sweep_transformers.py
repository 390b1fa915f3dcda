"""Architectures of transformers through neve: `python -m tests.conformance.sweep_transformers [--backend compiled] …`.

Each has a tiny random configuration with redrawn weights (see `architectures`) and is run on two different inputs.
Classes as in `opdb`; "absent" is one that the installed transformers does not have or cannot run eagerly. Right: every
float result within 1e-4 of its largest value, every other equal.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.conformance.pool import run_all, serve

TOLERANCE = 1e-4
ORDER = ("wrong", "crashed", "hung", "refused", "absent", "right")


def check(name: str, backend: str) -> dict[str, Any]:
    """One architecture's class."""
    import torch
    from torch.utils import _pytree as pytree

    from neve.errors import CaptureError
    from tests.conformance.architecture import build
    from tests.conformance.architectures import ARCHITECTURES
    from tests.conformance.backends import BACKENDS
    from tests.conformance.opdb_worker import agree, difference, numpy

    a = next(x for x in ARCHITECTURES if x.name == name)
    try:
        model = build(a)
        inputs = [a.inputs(torch.Generator().manual_seed(seed)) for seed in (1, 2)]
        with torch.no_grad():
            wanted = [
                [numpy(t) for t in pytree.tree_leaves(model(**i, **a.call)) if isinstance(t, torch.Tensor)]
                for i in inputs
            ]
    except Exception as error:
        return {"class": "absent", "detail": f"{type(error).__name__}: {error}"[:200], "error": 0.0}
    try:
        run = BACKENDS[backend](model, (), inputs[0] | a.call)
        results = [run(list(i.values())) for i in inputs]
    except CaptureError as error:
        kind = "crashed" if "internal:" in str(error) else "refused"
        return {"class": kind, "detail": " | ".join(r.split("\n")[0] for r in error.reasons)[:300], "error": 0.0}
    worst = 0.0
    for got, eager in zip(results, wanted, strict=True):
        for g, w in zip(got, eager, strict=True):
            if g.shape != w.shape or not agree(g, w, TOLERANCE):
                return {
                    "class": "wrong",
                    "detail": difference(g, w) if g.shape == w.shape else f"shape {g.shape}, eager has {w.shape}",
                    "error": 1.0,
                }
            if w.dtype.kind == "f" and w.size:
                worst = max(worst, float(abs(g - w).max() / max(abs(w).max(), 1e-30)))
    return {"class": "right", "detail": f"error {worst:.1e}", "error": worst}


def serve_models(backend: str) -> None:
    """Answer names on standard input; for `pool`."""
    import torch

    from tests.conformance.backends import hide_unusable_packages

    hide_unusable_packages()
    os.environ["HF_HUB_OFFLINE"] = "1"
    torch.set_num_threads(1)
    serve(lambda name: check(name, backend), {"error": 0.0})


def sweep(
    wanted: Sequence[str],
    backend: str = "interpret",
    *,
    workers: int = 2,
    timeout: float = 240.0,
    log: Path | None = None,
    progress: bool = False,
) -> dict[str, dict[str, Any]]:
    """Model class → {"class", "detail", "error", "seconds"}; log: see `run_all`."""
    results: dict[str, dict[str, Any]] = {}
    args = ["--serve", "--backend", backend]
    for name, r in run_all("tests.conformance.sweep_transformers", args, wanted, workers, timeout, log):
        results[name] = r
        if progress:
            counts = dict(Counter(x["class"] for x in results.values()))
            print(f"\r{len(results)}/{len(wanted)} {counts}   ", end="", file=sys.stderr, flush=True)
    if progress:
        print(file=sys.stderr)
    return results


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="model classes (default: all)")
    parser.add_argument("--backend", default="interpret", choices=("interpret", "compiled"))
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--timeout", type=float, default=240.0)
    parser.add_argument(
        "--log",
        type=Path,
        help="file to which results are added as they come; a sweep that was stopped goes on from it",
    )
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        serve_models(args.backend)
        return 0
    from tests.conformance.architectures import ARCHITECTURES

    wanted = args.names or [a.name for a in ARCHITECTURES]
    results = sweep(wanted, args.backend, workers=args.workers, timeout=args.timeout, log=args.log, progress=True)
    if args.json:
        print(json.dumps(results, indent=1))
    else:
        for name, r in sorted(results.items(), key=lambda x: (ORDER.index(x[1]["class"]), x[0])):
            print(f"{r['class']:8} {name:40} {r['detail']}")
        print("  ".join(f"{k}: {n}" for k, n in Counter(r["class"] for r in results.values()).items()))
    return int(any(r["class"] in ORDER[:3] for r in results.values()))


if __name__ == "__main__":
    sys.exit(main())
