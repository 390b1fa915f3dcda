"""All cases."""

from __future__ import annotations

from tests.familiar import calling, flow, folding, freezing, packing, state
from tests.familiar.case import Case, unique

CASES: list[Case] = unique(case for m in (folding, packing, state, freezing, flow, calling) for case in m.CASES)
