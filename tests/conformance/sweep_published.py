"""Models from PyPI packages through neve: `python -m tests.conformance.sweep_published [NAME …] …`.

Random weights, evaluation mode, two inputs at each of two sizes; right: every float result within 1e-4 of its largest
value, every other equal. Needs what `requirements/published.txt` lists: `make models` installs it aside.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from tests.conformance.pool import run_all, serve

TOLERANCE = 1e-4
PACKAGES = Path(__file__).parents[2] / "requirements" / "published.txt"
ORDER = ("wrong", "crashed", "hung", "absent", "refused", "right")


def leaves(result: Any) -> list[Any]:
    """The tensors of a result, which may be an object that its fields make up."""
    from torch.utils import _pytree as pytree

    from neve.capture.objects import plain

    return pytree.tree_leaves(plain(result))


def check(name: str) -> dict[str, Any]:
    import torch

    import neve
    from tests.conformance.opdb_worker import agree, difference, numpy
    from tests.conformance.published import ENTRIES

    torch.manual_seed(0)
    try:
        given = ENTRIES[name].make()
        model = given.model.eval()
        calls = [given.call(size) for size in given.sizes for _ in range(2)]
        if given.dynamic is None:
            calls = calls[:2]
        with torch.no_grad():
            wanted = [leaves(getattr(model, given.method)(*call)) for call in calls]
    except Exception as error:
        return {"class": "absent", "detail": f"{type(error).__name__}: {error}"[:300]}
    started = time.perf_counter()
    try:
        method = {"args": calls[0], "dynamic_shapes": given.dynamic}
        module = neve.compile(model, methods={given.method: method}, threads=1)
        spent = time.perf_counter() - started
        results = [leaves(getattr(module, given.method)(*call)) for call in calls]
    except neve.CaptureError as error:
        kind = "crashed" if "internal:" in str(error) else "refused"
        reasons = [r for r in error.all_reasons if not r.startswith("its source")] or error.all_reasons
        return {"class": kind, "detail": reasons[0]}
    worst = 0.0
    for got, eager in zip(results, wanted, strict=True):
        if len(got) != len(eager):
            return {"class": "wrong", "detail": f"{len(got)} results, eager has {len(eager)}"}
        for g, w in zip(map(numpy, got), map(numpy, eager), strict=True):
            if g.shape != w.shape or not agree(g, w, TOLERANCE):
                return {"class": "wrong", "detail": difference(g, w) if g.shape == w.shape else f"{g.shape} {w.shape}"}
            if w.dtype.kind == "f" and w.size:
                worst = max(worst, float(abs(g - w).max() / max(abs(w).max(), 1e-30)))
    return {"class": "right", "detail": f"error {worst:.1e}", "compile": round(spent, 1)}


def page(results: dict[str, dict[str, Any]]) -> str:
    """docs/models.md: what works, and what to do about the rest."""
    from tests.conformance.published import ENTRIES

    pinned = [line.split("==") for line in PACKAGES.read_text().split() if "==" in line]
    versions = {name.lower().replace("_", "-"): version for name, version in pinned}
    counts = Counter(r["class"] for r in results.values())
    lines = [
        "# Models that were tried",
        "",
        "Models of PyPI packages with code of their own, small and with random weights, compiled as they are published",
        "and compared with PyTorch on two inputs at each of two sizes. `make models` installs them aside, tries them,",
        f"and writes this page. Right: {counts['right']} of {len(results)}.",
        "",
        "| kind | model | package | varies | |",
        "|---|---|---|---|---|",
    ]
    for name, r in results.items():
        e = ENTRIES[name]
        lines.append(f"| {e.kind} | {name} | {e.package} {versions[e.package.lower()]} | {e.varies} | {r['class']} |")
    for name, r in results.items():
        if r["class"] != "right":
            reason = re.sub(r"  \(.*\)$", "", r["detail"].split("\n")[0]).replace("|", "\\|")
            lines += ["", f"**{name}**: {reason}. Instead: {ENTRIES[name].instead or 'a defect of neve'}."]
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", metavar="NAME", help="these models only (default: all)")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--timeout", type=float, default=300.0, help="seconds for one model")
    parser.add_argument(
        "--log", type=Path, help="file to which results are added; a sweep that stopped goes on from it"
    )
    parser.add_argument("--page", type=Path, help="file to which the results are written as documentation")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        serve(check)
        return 0
    from tests.conformance.published import ENTRIES

    results: dict[str, dict[str, Any]] = {}
    wanted = args.only or list(ENTRIES)
    command = "tests.conformance.sweep_published", ["--serve"]
    # a process for each: what one package changes in torch is not the next one's
    for name, r in run_all(*command, wanted, args.workers, args.timeout, args.log, fresh=True):
        results[name] = r
        seconds = f"{r['compile']:6.1f} s" if "compile" in r else ""
        print(f"{r['class']:8} {name:24} {seconds:8}  {r['detail']}", flush=True)
    if args.page is not None:
        args.page.write_text(page({name: results[name] for name in ENTRIES if name in results}))
    counts = Counter(r["class"] for r in results.values())
    print("  ".join(f"{k}: {counts[k]}" for k in ORDER if counts[k]))
    return int(any(counts[k] for k in ORDER[:3]))


if __name__ == "__main__":
    sys.exit(main())
