"""Libraries with AddressSanitizer and UndefinedBehaviorSanitizer, for tests: a Python process must be started for them.

    build(source, compiler=find_compiler(native(), "gcc"), extra=FLAGS)
    subprocess.run([sys.executable, …], env={**os.environ, **environment(compiler)})

There any access beyond a tensor, the weights or the context, and any undefined arithmetic, ends the process with a
report.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from neve.build.toolchain import Compiler
from neve.errors import BuildError

FLAGS = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer", "-g")


def environment(compiler: Compiler) -> dict[str, str]:
    """What the process that loads such a library needs in its environment; BuildError if gcc has no sanitizers.

    Memory that Python and torch never give back is not reported.
    """
    paths = []
    for name in ("libasan.so", "libubsan.so"):
        reported = subprocess.run(
            [*compiler.command, f"-print-file-name={name}"], capture_output=True, text=True, check=False
        )
        path = reported.stdout.strip()
        if reported.returncode or not Path(path).is_absolute():
            raise BuildError(f"{compiler} has no {name}: install gcc with its sanitizers")
        paths.append(path)
    return {"LD_PRELOAD": " ".join(paths), "ASAN_OPTIONS": "detect_leaks=0", "UBSAN_OPTIONS": "print_stacktrace=1"}
