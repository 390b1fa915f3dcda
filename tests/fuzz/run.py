"""One program compiled and held against eager. As a module: a worker that answers seeds with outcomes, a JSON line
each.
"""

from __future__ import annotations

import json
import linecache
import os
import re
import shutil
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

TRIALS = 8
"""Of the search, a method: the kinds of trials in order, without the random mixtures."""
SEARCH_SECONDS = 4.0


@dataclass(frozen=True)
class Outcome:
    """kind: "right", "refused", "wrong" (the search found a difference), "crashed" (an internal error) or "invalid"
    (eager does not run it).
    """

    kind: str
    reason: str = ""
    detail: str = ""
    seconds: float = 0.0


def setup() -> None:
    """The compiler asked for less optimization, one file a program, no host threads: speed, with the same C."""
    import torch

    from neve.build import toolchain
    from neve.check import prove, search

    torch.set_num_threads(1)
    toolchain.FLAGS = tuple("-O1" if f == "-O3" else f for f in toolchain.FLAGS)
    toolchain.processors = lambda: 1
    toolchain._has_threads = lambda target, compiler: False
    search.TRIALS = TRIALS
    search.SECONDS = SEARCH_SECONDS
    prove.BISECT_SECONDS = 20.0
    warnings.simplefilter("ignore")


def run(source: str, name: str = "<fuzz>") -> Outcome:
    """What comes of compiling a program."""
    import torch

    import neve
    from neve.errors import CaptureError, VerifyError

    clock = time.perf_counter()

    def outcome(kind: str, reason: str = "", detail: str = "") -> Outcome:
        return Outcome(kind, reason, detail, time.perf_counter() - clock)

    linecache.cache[name] = (len(source), None, source.splitlines(True), name)
    space: dict[str, Any] = {"__name__": "fuzzed"}
    try:
        exec(compile(source, name, "exec"), space)
        make: Callable[[], Any] = space["make"]
        model, methods = make()
        with torch.no_grad():
            for method, call in methods.items():
                getattr(model, method)(*call["args"], **call.get("kwargs", {}))
        model, methods = make()
    except Exception as error:  # whatever eager raises
        return outcome("invalid", first(error))
    try:
        neve.compile(model, methods=methods)
    except CaptureError as error:
        return outcome("refused", reason(error), str(error))
    except VerifyError as error:
        return outcome("wrong", begins(str(error)), str(error))
    except Exception as error:  # an internal one
        return outcome("crashed", f"{type(error).__name__} {place(error)}: {first(error)}", traceback.format_exc())
    return outcome("right")


def first(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:160]


def place(error: BaseException) -> str:
    """The last of neve's own functions that it came through."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if "/neve/" in f.filename]
    return f"{os.path.basename(frames[-1].filename)}:{frames[-1].name}" if frames else ""


def reason(error: Any) -> str:
    """Numbers, names and places left out: what is refused, not where."""
    text = error.reasons[0].splitlines()[0]
    return re.sub(r"[\w.<>/]*fuzz[\w.<>/-]*:?\d*|\bv\d+\b|\d+", "#", text)[:110]


def begins(text: str) -> str:
    m = re.search(r"The difference begins in (.*?)(, error|, first| \(|\. The inputs)", text)
    return re.sub(r"\d+", "#", m[1])[:100] if m else "unknown step"


def main() -> None:
    from tests.fuzz.grammar import generate

    cache = tempfile.mkdtemp(prefix="neve-fuzz-")
    os.environ["NEVE_CACHE"] = cache
    os.environ["TMPDIR"] = tempfile.tempdir = tempfile.mkdtemp(dir=cache)
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    setup()
    try:
        for n, line in enumerate(sys.stdin):
            try:
                source = generate(int(line)).source()
                answer = {**asdict(run(source, f"<fuzz {line.strip()}>"))}
            except Exception:
                answer = asdict(Outcome("crashed", "the generator", traceback.format_exc()))
            answers.write(json.dumps(answer) + "\n")
            answers.flush()
            if n % 50 == 49:
                shutil.rmtree(cache, ignore_errors=True)
                os.makedirs(tempfile.tempdir, exist_ok=True)
    finally:
        shutil.rmtree(cache, ignore_errors=True)


if __name__ == "__main__":
    main()
