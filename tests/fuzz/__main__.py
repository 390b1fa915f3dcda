"""Random nn.Modules compiled and held against eager.

    python -m tests.fuzz --programs 500 --seed 0 --jobs 2

prints how many are right, refused (by reason) and wrong, and the seeds of what is wrong, crashed or hung; `--show SEED`
prints a program and what comes of it, `--shrink SEED` the smallest that fails in the same way.
"""

from __future__ import annotations

import argparse
import collections
import itertools
import json
import sys
import time
from pathlib import Path
from typing import Any

from tests.conformance.pool import run_all
from tests.fuzz.grammar import generate
from tests.fuzz.run import run, setup
from tests.fuzz.shrink import shrink

TIMEOUT = 90.0
BAD = ("wrong", "crashed", "hung")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__.partition("\n")[0])
    parser.add_argument("--programs", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0, help="of the first program")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=1e9, help="start no program after so many")
    parser.add_argument("--log", type=Path, help="outcomes, a JSON line each, added as they come")
    parser.add_argument("--show", type=int, metavar="SEED")
    parser.add_argument("--shrink", type=int, metavar="SEED")
    args = parser.parse_args()
    if args.show is not None or args.shrink is not None:
        setup()
        program = generate(args.show if args.show is not None else args.shrink)
        if args.shrink is not None:
            program = shrink(program)
        print(program.source())
        found = run(program.source())
        print(f"# {found.kind}: {found.reason}\n# " + found.detail.replace("\n", "\n# "))
        return int(found.kind in BAD)
    return sweep(args)


def sweep(args: Any) -> int:
    seeds = [str(args.seed + k) for k in range(args.programs)]
    counts: collections.Counter[str] = collections.Counter()
    refusals: collections.Counter[str] = collections.Counter()
    start = time.perf_counter()
    for seed, found in run_all("tests.fuzz.run", (), seeds, args.jobs, TIMEOUT):
        kind = found.get("kind", found.get("class", ""))
        counts[kind] += 1
        if kind == "refused":
            refusals[found["reason"]] += 1
        if kind in BAD:
            print(f"{kind} {seed}: {found.get('reason', found['detail'])}", flush=True)
        if args.log:
            with args.log.open("a") as file:
                file.write(json.dumps({"seed": int(seed), **found, "kind": kind}) + "\n")
        if time.perf_counter() - start > args.seconds:
            break
    seconds = time.perf_counter() - start
    for text, n in itertools.islice(refusals.most_common(), 40):
        print(f"{n:5} {text}")
    total = sum(counts.values())
    print(f"{total} programs in {seconds:.0f} s: " + ", ".join(f"{n} {k}" for k, n in counts.most_common()))
    return int(any(counts[k] for k in BAD))


if __name__ == "__main__":
    sys.exit(main())
