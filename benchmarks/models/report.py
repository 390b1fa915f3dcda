"""benchmarks/RESULTS.md and its plot from the figures of `measure`: `python -m benchmarks.models.report [FILE]`."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

from benchmarks.models.engines import ENGINES

HERE = Path(__file__).resolve().parents[1]
Figures = dict[str, Any]


def best_peer(row: Figures) -> tuple[str, float] | None:
    """The fastest engine besides neve, and its seconds."""
    peers = {name: r["seconds"] for name, r in row.items() if name != "neve" and "seconds" in r}
    return min(peers.items(), key=lambda p: p[1]) if peers else None


def ratio(row: Figures) -> float:
    """Seconds of neve over those of the best peer; NaN if one has none."""
    peer = best_peer(row)
    return row["neve"]["seconds"] / peer[1] if peer and "seconds" in row.get("neve", {}) else math.nan


def table(models: dict[str, Figures], threads: str) -> list[str]:
    """A row a model: milliseconds of each engine, the best peer, and the ratio."""
    names = [e for e in ENGINES if any(e in m.get(threads, {}) for m in models.values())]
    lines = [
        f"| {threads} thread{'s' if threads != '1' else ''} | " + " | ".join(names) + " | neve / best peer |",
        "|---" * (len(names) + 2) + "|",
    ]
    ratios = []
    for model, by_threads in models.items():
        row = by_threads.get(threads)
        if row is None:
            continue
        cells = [f"{row[e]['seconds'] * 1e3:.3g}" if "seconds" in row.get(e, {}) else "–" for e in names]
        peer, value = best_peer(row), ratio(row)
        ratios.append(value)
        lines.append(f"| {model} | " + " | ".join(cells) + f" | **{value:.2f}** ({peer[0] if peer else 'none'}) |")
    known = [r for r in ratios if not math.isnan(r)]
    if known:
        mean = math.exp(sum(map(math.log, known)) / len(known))
        lines.append("| geometric mean" + " | " * (len(names) + 1) + f"**{mean:.2f}** |")
    return lines


def failures(models: dict[str, Figures]) -> list[str]:
    """What an engine could not do, once."""
    found = {}
    for model, by_threads in models.items():
        for row in by_threads.values():
            for engine, r in row.items():
                if "failure" in r:
                    found[f"- {engine}, {model}: {r['failure']}".replace("|", "¦")] = None
    return list(found)


def plot(models: dict[str, Figures], path: Path) -> None:
    """Bars: how many times as fast as eager PyTorch each engine is, a panel a model."""
    import altair as alt

    values = []
    for model, by_threads in models.items():
        row = by_threads.get("1", {})
        for engine, r in row.items():
            if "seconds" in r and "seconds" in row.get("eager", {}):
                values.append({"model": model, "engine": engine, "speed": row["eager"]["seconds"] / r["seconds"]})
    chart = (
        alt.Chart(alt.Data(values=values), title="Speed relative to eager PyTorch, one thread")
        .mark_bar()
        .encode(
            x=alt.X("engine:N", sort=list(ENGINES), title=None),
            y=alt.Y("speed:Q", title=None),
            color=alt.condition("datum.engine == 'neve'", alt.value("#1f6fb4"), alt.value("#b8c4cf")),
            facet=alt.Facet("model:N", columns=5, title=None, sort=list(models)),
        )
        .properties(width=120, height=90)
        .resolve_scale(y="independent")
    )
    chart.save(str(path))


def markdown(found: Figures) -> str:
    """The whole page."""
    machine, models = found["machine"], found["models"]
    threads = sorted({t for m in models.values() for t in m}, key=int)
    versions = ", ".join(f"{k} {v}" for k, v in machine["versions"].items())
    where = f"{machine['processor']} with {machine['processors']} processors ({machine['target']}, "
    where += f"{machine['peak']} GFLOP/s a core measured), {machine['date']}: {versions}"
    lines = [
        "# Latency of whole models",
        "",
        f"Milliseconds of one request, float32, on {where}. Each figure is a median over rounds in which all engines",
        "take turns. A dash is an engine that did not take the model; why is below. The models are those of",
        "`tests/models/zoo.py`. Made by `make results`.",
        "",
        "![speed relative to eager PyTorch](results.svg)",
    ]
    for t in threads:
        lines += ["", *table(models, t)]
    worst = max(
        (row["neve"]["error"] for m in models.values() for row in m.values() if "error" in row["neve"]), default=0
    )
    lines += ["", f"neve's largest error against eager, relative to the largest output: {worst:.1e}."]
    if missing := failures(models):
        lines += ["", "What did not run:", "", *missing]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Write the page and the plot beside it."""
    source = Path(sys.argv[1] if len(sys.argv) > 1 else "build/results.json")
    found = json.loads(source.read_text())
    plot(found["models"], HERE / "results.svg")
    (HERE / "RESULTS.md").write_text(markdown(found), encoding="utf-8")
    print(f"wrote {HERE / 'RESULTS.md'} and results.svg")


if __name__ == "__main__":
    main()
