"""python -m tests.familiar [PATTERN]: how many cases are right, refused and wrong through each entry point."""

from __future__ import annotations

import sys
from collections import Counter

from tests.familiar.case import ENTRIES, outcomes
from tests.familiar.registry import CASES

WANTED = 120


def main() -> int:
    pattern = sys.argv[1] if len(sys.argv) > 1 else ""
    cases = [c for c in CASES if pattern in str(c)]
    counts: Counter[tuple[str, str]] = Counter()
    for case, entry, outcome in outcomes(cases):
        counts[entry, outcome.kind] += 1
        if outcome.kind != "right":
            expected = " (expected: " + case.why + ")" if case.refused and outcome.kind == "refused" else ""
            print(f"{outcome.kind}: {case}, {entry}: {outcome.text}{expected}")
    print(f"\n{'':24}{'right':>8}{'refused':>8}{'wrong':>8}{'cases':>8}   (wanted: {WANTED} or more cases, none wrong)")
    for entry in ENTRIES:
        numbers = [counts[entry, kind] for kind in ("right", "refused", "wrong")]
        print(f"{entry:24}" + "".join(f"{n:8}" for n in [*numbers, sum(numbers)]))
    return int(any(kind == "wrong" for _, kind in counts))


if __name__ == "__main__":
    sys.exit(main())
