"""C programs around a compiled model: how they are built and run, and one that is built with sanitizers."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neve import artifact as artifacts
from neve.build.target import native
from neve.build.toolchain import find_compiler

STRICT = ("-std=gnu11", "-Wall", "-Wextra", "-Werror")
ISA = {"avx2": ("-mavx2", "-mfma", "-mf16c"), "avx512": ("-march=native",), "neon": (), "generic": ()}
SANITIZE = ("-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")


def command(compiler: str) -> list[str]:
    return list(find_compiler(native(), compiler).command)


def flags(*more: str) -> list[str]:
    return [*STRICT, *ISA[native().isa], *(more or ("-O2",))]


def execute(argv: list[str], cwd: Path, env: Mapping[str, str] | None = None, data: bytes = b"") -> bytes:
    done = subprocess.run(
        argv, cwd=cwd, env={**os.environ, **(env or {})}, input=data, capture_output=True, check=False
    )
    assert done.returncode == 0, f"{' '.join(argv)}\n{done.stdout.decode()[-2000:]}{done.stderr.decode()[-6000:]}"
    return done.stdout


def needs(compiler: str, names: list[str]) -> None:
    if compiler not in names:
        pytest.skip(f"no {compiler} here")


HOST = r"""
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "NAME.h"

static void *aligned(size_t size) { return aligned_alloc(64, (size + 63) / 64 * 64 + 64); }

static void read_exactly(void *to, size_t size, FILE *from)
{
    if (fread(to, 1, size, from) != size) exit(3);
}

/* A plain host: a thread for each tid, started for each call. */
typedef struct { void (*body)(void *, int32_t, int32_t); void *arg; int32_t tid, nt; } job;
static void *start(void *p) { job *j = p; j->body(j->arg, j->tid, j->nt); return NULL; }
static void run(void *host, void (*body)(void *, int32_t, int32_t), void *arg)
{
    int32_t nt = *(int32_t *)host;
    pthread_t threads[8];
    job jobs[8];
    for (int32_t i = 0; i < nt; i++) {
        jobs[i] = (job){body, arg, i, nt};
        if (pthread_create(&threads[i], NULL, start, &jobs[i])) exit(4);
    }
    for (int32_t i = 0; i < nt; i++) pthread_join(threads[i], NULL);
}

static const size_t in_bytes[] = {IN_BYTES};
enum { INPUTS = sizeof in_bytes / sizeof *in_bytes };
static void *weights, *inputs[INPUTS], *first;

/* A context of its own, three calls, the same bits each time. */
static void *use(void *p)
{
    int32_t nt = *(int32_t *)p;
    neve_parallel parallel = {&nt, nt, run, NULL};
    NAME *model = aligned(NAME_context_size());
    void *out = malloc(OUT_BYTES);
    NAME_forward_io io = {.out0 = out};
    memcpy(&io, inputs, sizeof inputs); /* in0, in1, … come first */
#ifdef MEASURED
    int64_t measured;
    io.sizes = &measured;
#endif
    memset(model, 0xAB, NAME_context_size());
    if (NAME_init(model, weights, WEIGHTS_BYTES)) exit(5);
    for (int i = 0; i < 3; i++) {
        memset(out, 0xCD, OUT_BYTES);
        if (NAME_forward(model, &io, nt > 1 ? &parallel : NULL)) exit(6);
#ifdef MEASURED
        if (measured != MEASURED) exit(8);
#endif
        if (first && memcmp(first, out, OUT_BYTES)) exit(7);
    }
    free(model);
    return out;
}

int main(int argc, char **argv)
{
    FILE *file = argc == 2 ? fopen(argv[1], "rb") : NULL;
    if (!file) return 2;
    /* exactly their sizes: the sanitizer sees every access beyond them */
    weights = aligned_alloc(64, (WEIGHTS_BYTES + 63) / 64 * 64);
    read_exactly(weights, WEIGHTS_BYTES, file);
    for (int i = 0; i < INPUTS; i++) read_exactly(inputs[i] = malloc(in_bytes[i]), in_bytes[i], stdin);
    fclose(file);
    int32_t alone = 1, two = 2, three = 3;
    first = use(&alone);
    free(use(&two));
    free(use(&three));
    pthread_t a, b;
    void *x, *y;
    if (pthread_create(&a, NULL, use, &alone) || pthread_create(&b, NULL, use, &two)) return 4;
    pthread_join(a, &x);
    pthread_join(b, &y);
    fwrite(first, 1, OUT_BYTES, stdout);
    for (int i = 0; i < INPUTS; i++) free(inputs[i]);
    free(first), free(x), free(y), free(weights);
    return 0;
}
"""


def run_sanitized(
    module: Any, args: Sequence[Any], wanted: np.ndarray, folder: Path, measured: int | None = None
) -> np.ndarray:
    """`run_host` under ASan and UBSan (gcc)."""
    artifacts.unpack(module.artifact, folder)
    compiler = [*command("gcc"), *flags(*SANITIZE), f"{module.name}.c"]
    return run_host(module.name, args, wanted, folder, compiler, measured=measured)


def run_host(
    name: str,
    args: Sequence[Any],
    wanted: np.ndarray,
    folder: Path,
    compiler: Sequence[str],
    emulator: Sequence[str] = (),
    measured: int | None = None,
) -> np.ndarray:
    """The output of a model's forward, computed by the program above.

    The folder has the model's header and its NAME.weights; compiler is a command line that builds the program, the
    model's C or object included. args are tensors, wanted is an array of the one output's shape and dtype. measured:
    what the call has to say of the one size that data decide; wanted is all the memory of the output then, and bytes
    that no call writes are 0xCD. The program fails if not all its calls, on 1, 2 and 3 threads and in two contexts at
    once, give the same bits.
    """
    arrays = [np.ascontiguousarray(a) for a in args]
    (folder / "host.c").write_text(HOST.replace("NAME", name))
    sizes = {
        "OUT_BYTES": wanted.nbytes,
        "IN_BYTES": ",".join(str(a.nbytes) for a in arrays),
        "WEIGHTS_BYTES": (folder / f"{name}.weights").stat().st_size,
    }
    if measured is not None:
        sizes["MEASURED"] = measured
    defines = [f"-D{key}={value}" for key, value in sizes.items()]
    execute([*compiler, *defines, "host.c", "-pthread", "-o", "host"], folder)
    printed = execute([*emulator, "./host", f"{name}.weights"], folder, data=b"".join(a.tobytes() for a in arrays))
    return np.frombuffer(printed, wanted.dtype).reshape(wanted.shape)
