"""Memory that a call takes beside the weights, in every engine: `python -m benchmarks.models.memory [models …]`.

Each engine runs in a process of its own. After the model is built and before its first call the high-water mark of
resident memory is set back (Linux: /proc/self/clear_refs) and freed memory returned (glibc: malloc_trim); what it has
risen by after three calls is what the engine took for activations and workspace. An engine that touches its memory
while it builds shows less than it takes. For neve the size of its context for one thread is printed, which is exact.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import multiprocessing
from multiprocessing.connection import Connection
from pathlib import Path

from benchmarks.models.engines import ENGINES

MEGABYTE = 1e6


def resident(what: str) -> int:
    """VmRSS or VmHWM of this process, bytes."""
    line = next(x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith(what))
    return int(line.split()[1]) * 1024


def work(pipe: Connection, engine: str, model: str) -> None:
    """One engine: what the resident memory rises by in its first calls."""
    try:
        import torch

        from tests.models import zoo

        torch.set_num_threads(1)
        with torch.inference_mode():
            net, args = zoo.build(model), zoo.draw(model, 1)
            run = ENGINES[engine][0](net, args, 1)
            gc.collect()
            ctypes.CDLL(None).malloc_trim(0)
            Path("/proc/self/clear_refs").write_text("5")
            before = resident("VmRSS")
            for _ in range(3):
                run()
            pipe.send(resident("VmHWM") - before)
    except BaseException as failure:
        first = (str(failure).strip().splitlines() or [""])[0]
        pipe.send(f"{type(failure).__name__}: {first}"[:200])


def planned(model: str) -> int:
    """Bytes of neve's context for one thread."""
    from neve.build.target import native
    from neve.capture.export import capture
    from neve.emit.program import emit
    from neve.passes.pipeline import optimize
    from tests.models import zoo

    program, _ = optimize(capture(zoo.build(model), zoo.draw(model, 1)))
    return int(emit(program, native(), "model", 1).source.signature["context_size"])


def main() -> None:
    """Print a line an engine."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=["resnet50", "bert_base"])
    parser.add_argument("--engines", default=",".join(ENGINES))
    a = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    for model in a.models:
        print(f"{model}: neve plans {planned(model) / MEGABYTE:.1f} MB", flush=True)
        for engine in [e for e in a.engines.split(",") if e != "neve"]:
            pipe, far = context.Pipe()
            process = context.Process(target=work, args=(far, engine, model), daemon=True)
            process.start()
            told = pipe.recv() if pipe.poll(300) else "no answer"
            process.kill()
            print(f"  {engine:12} {told if isinstance(told, str) else f'{told / MEGABYTE:.1f} MB'}", flush=True)


if __name__ == "__main__":
    main()
