"""What is known of an artifact, as data (for --json) and as text."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from rich.markup import escape
from rich.table import Table

from neve.artifact import Artifact
from neve.cli.console import duration, out, size
from neve.runtime.expressions import show as as_python
from neve.runtime.signature import read_signature


def summary(artifact: Artifact) -> dict[str, Any]:
    """Signature, sizes in bytes, targets, what the passes did, errors measured, seconds that compiling took."""
    signature = read_signature(artifact.signature)
    return {
        "name": artifact.name,
        "methods": {name: str(m) for name, m in signature.methods.items()},
        "inputs": {name: [_tensor(t) for t in m.inputs] for name, m in signature.methods.items()},
        "outputs": {name: [_tensor(t) for t in m.outputs] for name, m in signature.methods.items()},
        "sizes": {name: {s.name: [s.min, s.max] for s in m.symbols} for name, m in signature.methods.items()},
        "state": {s.name: [s.dtype, list(s.shape)] for s in signature.state.values()},
        "bytes": {
            "weights": int(artifact.weights.nbytes),
            "context": signature.context_size,
            "code": {target: len(binary.data) for target, binary in artifact.libraries.items()},
            "source": sum(len(text.encode()) for text in artifact.sources.values()),
        },
        "targets": {target: binary.compiler for target, binary in artifact.libraries.items()},
        "kernel_calls": {method: len(sites) for method, sites in artifact.extra.get("calls", {}).items()},
        "examples": {method: len(examples) for method, examples in artifact.examples.items()},
        "rewrites": rewrites(artifact),
        "errors": artifact.measured.get("errors", {}),
        "tried": artifact.measured.get("tried", []),
        "seconds": artifact.extra.get("seconds", {}),
    }


def rewrites(artifact: Artifact) -> dict[str, int]:
    """How often each pass changed the graph."""
    entries = [str(e) for e in artifact.log]
    return dict(Counter(e.split(":")[0].strip() for e in entries if not _is_miss(e)).most_common())


def _is_miss(entry: str) -> bool:
    return bool(re.match(r"[\w.]+( \(miss\)|: (declined|missed|not ))", entry))


def _tensor(tensor: Any) -> dict[str, Any]:
    return {
        "name": tensor.name,
        "dtype": tensor.dtype,
        "shape": [d if isinstance(d, int) else as_python(d) for d in tensor.shape],
    }


def show(artifact: Artifact, file_bytes: int, path: str) -> None:
    """The summary as a person reads it."""
    reported = summary(artifact)
    out.print(f"[bold]{escape(path)}[/]  {size(file_bytes)}", soft_wrap=True)
    for text in reported["methods"].values():
        out.print(f"  {text}", markup=False)
    if reported["state"]:
        out.print("  state: " + ", ".join(f"{n} {d} {s}" for n, (d, s) in reported["state"].items()), markup=False)
    table = Table.grid(padding=(0, 2))
    table.add_row("  weights", size(reported["bytes"]["weights"]))
    for target, count in reported["bytes"]["code"].items():
        table.add_row("  code", f"{size(count)} for {target}, built by {reported['targets'][target]}")
    if not reported["targets"]:
        table.add_row("  code", "none: it is built when the file is loaded")
    table.add_row(
        "  memory", f"{size(reported['bytes']['context'])} for each context: state, intermediate results, scratch"
    )
    calls = ", ".join(f"{n} in {m}" for m, n in reported["kernel_calls"].items())
    if calls:
        table.add_row("  kernels", calls)
    if reported["rewrites"]:
        table.add_row("  passes", ", ".join(f"{name} {count}" for name, count in reported["rewrites"].items()))
    if reported["tried"]:
        table.add_row("  compared", _compared(reported["tried"]))
    if reported["seconds"]:
        total = sum(reported["seconds"].values())
        parts = ", ".join(f"{stage} {duration(s)}" for stage, s in reported["seconds"].items())
        table.add_row("  compiled in", f"{duration(total)}: {parts}")
    out.print(table)


def _compared(tried: list[dict[str, Any]]) -> str:
    """On how many calls a module was compared with PyTorch, and what came of it."""
    plain = [t for t in tried if not t.get("explained") and not t.get("raised") and not t.get("refused")]
    worst = max(plain, key=lambda t: t["error"], default=None)
    parts = [f"{sum(t['calls'] for t in tried)} calls with PyTorch when it was compiled"]
    if worst:
        parts.append(f"{worst['error']:.1e} of the largest value at most ({worst['method']}, {worst['what']})")
    for key, text in OUTCOMES.items():
        count = sum(bool(t.get(key)) for t in tried)
        parts += [f"{count} {text}"] if count else []
    return "; ".join(parts) + ": neve inspect --tried lists them"


OUTCOMES = {
    "explained": "where PyTorch's result moves as far when its inputs move by a rounding",
    "raised": "that both refuse",
    "refused": "of sizes that it does not take",
}


def show_tried(tried: Sequence[Mapping[str, Any]]) -> None:
    """What was tried, equal trials on one line with the largest error of them."""
    rows: dict[tuple[str, str, str], tuple[int, float]] = {}
    for t in tried:
        remark = next((text for key, text in OUTCOMES.items() if t.get(key)), "")
        key = t["method"], t["what"], remark
        calls, error = rows.get(key, (0, 0.0))
        rows[key] = calls + t["calls"], max(error, t["error"])
    table = Table("method", "what was tried", "calls", "error", "", box=None, header_style="bold")
    for (method, what, remark), (calls, error) in rows.items():
        silent = remark and remark != OUTCOMES["explained"]
        table.add_row(method, escape(what), str(calls), "" if silent else f"{error:.1e}", remark)
    out.print(table)


def show_calls(artifact: Artifact) -> None:
    """Each method's kernel calls, in order, with the model's source lines, and why some are no kernels."""
    for method, sites in artifact.extra.get("calls", {}).items():
        table = Table(title=f"{method}: {len(sites)} kernel calls", title_justify="left", box=None, header_style="bold")
        for column in ("", "kernel", "module", "source"):
            table.add_column(column, overflow="fold")
        for i, site in enumerate(sites):
            label, module, source = (escape(str(site.get(key) or "")) for key in ("label", "module", "source"))
            why = f"\n[yellow]runs as plain loops: {escape(site['plain'])}[/]" if site.get("plain") else ""
            why += "".join(f"\n[dim]{_faster(times)} {escape(other)}[/]" for other, times in site.get("others", ()))
            table.add_row(str(i), label + why, module, source)
        out.print(table)


def _faster(times: float) -> str:
    """What to say before another kernel that takes so many times as long by analysis."""
    return f"predicted to be {times:.1f} times as fast as" if times >= 1 else "measured to be faster than"


def show_profile(profile: Any, threads: int) -> None:
    """Each kernel's share of a call, the largest first, held against the machine's peak."""
    plural = "s" if threads > 1 else ""
    title = f"kernels of the fastest call, {duration(profile.seconds)} on {threads} thread{plural}"
    table = Table(title=title, title_justify="left", box=None, header_style="bold")
    for column in ("share", "time", "rate", "peak"):
        table.add_column(column, justify="right", no_wrap=True)
    for column in ("", "kernel", "module"):
        table.add_column(column, overflow="fold")
    for line in sorted(profile.lines, key=lambda x: -x.seconds):
        unit = "GFLOP/s" if line.limit == "compute" else "GB/s"
        table.add_row(
            f"{100 * line.share:.1f}%",
            duration(line.seconds),
            f"{line.rate / 1e9:.1f} {unit}",
            f"{100 * line.efficiency:.0f}%",
            str(line.index),
            escape(line.label),
            escape(line.module or ""),
        )
    out.print(table)
    sizes = ", ".join(f"{rate / 1e9:.0f} GB/s from {size >> 10} KB" for size, rate in profile.peak.bandwidths.items())
    out.print(
        f"measured peak: {profile.peak.flops / 1e9:.0f} GFLOP/s; {sizes}; the lines cover {100 * profile.covered:.1f}%"
    )
