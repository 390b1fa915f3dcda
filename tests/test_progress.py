from __future__ import annotations

import io
import sys

import pytest
import torch
from torch import nn

import neve
from neve.progress import Progress, shown


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def told(wanted: bool | Progress | None) -> None:
    with shown("compiling M", wanted) as report:
        for share, text in ((0.0, "capturing"), (0.5, "looking: a"), (0.75, "looking: [b]"), (1.0, "done")):
            if report:
                report(share, text)


@pytest.mark.parametrize(
    ("stream", "wanted", "printed"),
    [
        (io.StringIO, None, []),
        (io.StringIO, False, []),
        (io.StringIO, True, ["0% capturing", "50% looking\n", "100% done"]),
        (Terminal, None, ["compiling M", "100%"]),
        (Terminal, True, ["compiling M", "100%"]),
        (Terminal, False, []),
    ],
)
def test_where_progress_is_shown(
    stream: type[io.StringIO], wanted: bool | None, printed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", stream())
    told(wanted)
    text = sys.stderr.getvalue()  # type: ignore[attr-defined]
    assert all(p in text for p in printed) and bool(text) == bool(printed)
    assert text.count("looking") <= 1 or stream is Terminal


def test_nothing_is_imported_for_a_bar_that_nobody_sees(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rich.console", None)
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    told(None)
    monkeypatch.setattr(sys, "stderr", Terminal())
    told(None)  # rich is not installed


def test_a_function_is_told_the_stages_in_order() -> None:
    steps: list[tuple[float, str]] = []
    neve.compile(nn.ReLU(), (torch.ones(2),), verify=False, progress=lambda *step: steps.append(step))
    shares = [share for share, _ in steps]
    assert shares == sorted(shares) and shares[0] == 0.0 and steps[-1] == (1.0, "done")
