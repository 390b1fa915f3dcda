"""Torch's own operator samples (op_db) through neve: `python -m tests.conformance.opdb [--backend compiled] [names …]`.

Every entry with float32 (or --dtype) among its dtypes is run on all its forward samples that torch.export accepts. An
entry is
  right     every sample agrees with eager,
  refused   capture raised CaptureError for a sample, and no other class applies,
  wrong     a result differs: the one unforgivable class,
  crashed   anything else was raised, or the process died,
  hung      no answer within the time limit.
Tolerance: 1e-5 of the sample's largest finite output; where eager's own float32 result is further than half of that
from its float64 result, twice eager's distance; and where moving the inputs by half a float32 rounding moves the
float64 result further than that, so far. Integer and bool results, NaN and Inf have to be equal.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.conformance.pool import run_all

FLOOR = Path(__file__).with_name("opdb_floor.json")
ORDER = ("wrong", "crashed", "hung", "refused", "right")


def names(dtype: str = "float32") -> list[str]:
    """The entries with a dtype, in op_db's order: name or name.variant."""
    import torch
    from torch.testing._internal.common_methods_invocations import op_db

    return list(dict.fromkeys(title(o) for o in op_db if getattr(torch, dtype) in o.dtypes))


def floor_key(backend: str, dtype: str) -> str:
    """Of the entries in opdb_floor.json that are right."""
    return backend if dtype == "float32" else f"{backend} {dtype}"


def title(opinfo: Any) -> str:
    return f"{opinfo.name}.{opinfo.variant_test_name}" if opinfo.variant_test_name else str(opinfo.name)


def sweep(
    wanted: list[str],
    backend: str = "interpret",
    *,
    dtype: str = "float32",
    limit: int = 0,
    workers: int = 2,
    timeout: float = 240.0,
    log: Path | None = None,
    progress: bool = False,
) -> dict[str, dict[str, Any]]:
    """name → {"class", "detail", "samples", "seconds"} for every wanted entry.

    limit: at most so many samples of an entry, evenly spread (0: all). log: see `run_all`.
    """
    results: dict[str, dict[str, Any]] = {}
    start = time.time()
    args = [backend, str(limit), dtype]
    for name, result in run_all("tests.conformance.opdb_worker", args, wanted, workers, timeout, log):
        results[name] = result
        if progress:
            counts = Counter(r["class"] for r in results.values())
            summary = " ".join(f"{k} {counts[k]}" for k in ORDER if counts[k])
            print(
                f"\r{len(results)}/{len(wanted)}  {time.time() - start:.0f} s  {summary}   ",
                end="",
                file=sys.stderr,
                flush=True,
            )
    if progress:
        print(file=sys.stderr)
    return results


def table(results: dict[str, dict[str, Any]]) -> Iterator[str]:
    """The results as lines of text, the worst class first."""
    for name, r in sorted(results.items(), key=lambda item: (ORDER.index(item[1]["class"]), item[0])):
        yield f"{r['class']:8} {r['samples']:5} {name:45} {r['detail']}".rstrip()
    counts = Counter(r["class"] for r in results.values())
    yield (
        "  ".join(f"{k}: {counts[k]}" for k in ORDER)
        + f"  of {len(results)} entries, {sum(r['samples'] for r in results.values())} samples"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="entries to run (default: all)")
    parser.add_argument("--backend", choices=("interpret", "compiled"), default="interpret")
    parser.add_argument("--dtype", choices=("float32", "complex64", "complex128"), default="float32")
    parser.add_argument("--limit", type=int, default=0, help="at most so many samples of each entry")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--timeout", type=float, default=240.0, help="seconds for an entry")
    parser.add_argument(
        "--update-floor", action="store_true", help="write the entries that are right to opdb_floor.json"
    )
    parser.add_argument(
        "--log",
        type=Path,
        help="file to which results are added as they come; a sweep that was stopped goes on from it",
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    args = parser.parse_args()
    results = sweep(
        args.names or names(args.dtype),
        args.backend,
        dtype=args.dtype,
        limit=args.limit,
        workers=args.workers,
        timeout=args.timeout,
        log=args.log,
        progress=True,
    )
    print(json.dumps(results, indent=1) if args.json else "\n".join(table(results)))
    if args.update_floor:
        floor = json.loads(FLOOR.read_text()) if FLOOR.exists() else {}
        floor[floor_key(args.backend, args.dtype)] = sorted(n for n, r in results.items() if r["class"] == "right")
        FLOOR.write_text(json.dumps(floor, indent=0) + "\n")
    return int(any(r["class"] in ORDER[:3] for r in results.values()))


if __name__ == "__main__":
    sys.exit(main())
