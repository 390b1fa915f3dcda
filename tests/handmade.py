"""Models written in C by hand: small enough to be right at a glance, built as generated ones are."""

from __future__ import annotations

from typing import Any

import numpy as np

from neve.build.source import DTYPES, Source

LEAF: dict[str, Any] = {"leaf": 0}

_COMMON = """
#include "NAME.h"
NEVE_API size_t NAME_context_size(void) { return sizeof(NAME); }
NEVE_API const char *NAME_strerror(int code) { return code ? "failed" : "ok"; }
"""


def _source(
    name: str, header: str, body: str, weights: np.ndarray, methods: dict[str, Any], context: int, state: list[Any]
) -> Source:
    head = f'#ifndef {name}_H\n#define {name}_H\n#include "neve.h"\n{header}\n#endif\n'
    data = np.frombuffer(weights.tobytes(), np.uint8)
    signature = {
        "abi": 1, "name": name, "methods": methods, "state": state, "context_size": context, "weights_size": data.size,
    }  # fmt: skip
    return Source(name, {f"{name}.h": head, f"{name}.c": _COMMON.replace("NAME", name) + body}, data, signature)


def method(symbol: str, inputs: list[Any], outputs: list[Any], **more: Any) -> dict[str, Any]:
    """A method's signature; inputs and outputs are (name, dtype, shape)."""
    trees = [{"leaf": i} for i in range(len(outputs))]
    return {
        "symbol": symbol,
        "inputs": [{"name": n, "dtype": d, "shape": list(s), "scalar": None} for n, d, s in inputs],
        "outputs": [{"name": n, "dtype": d, "shape": list(s)} for n, d, s in outputs],
        "symbols": [],
        "guards": [],
        "workspace": 0,
        "in_tree": {"args": [{"leaf": i} for i in range(len(inputs))], "kwargs": {}},
        "out_tree": trees[0] if len(trees) == 1 else {"tuple": trees},
    } | more


def affine(name: str = "affine", n: int = 8, dtype: str = "float32") -> Source:
    """y = 2 x + 1 for x of shape (n,): 2 and 1 are its weights; split into NEVE_UNITS units, threads share the
    elements."""
    header = f"""
typedef struct {name} {{ const float *weights; }} {name};
typedef struct {name}_forward_io {{
    const float *x; float *y; void *workspace; int64_t workspace_size;
}} {name}_forward_io;
"""
    body = f"""
#ifndef NEVE_UNITS
#define NEVE_UNITS 1
#define NEVE_UNIT 0
#endif
void NAME_kernel(const float *w, const float *x, float *y, int32_t tid, int32_t nt);
#if NEVE_UNIT == NEVE_UNITS - 1
void NAME_kernel(const float *w, const float *x, float *y, int32_t tid, int32_t nt) {{
    for (int64_t i = (int64_t){n} * tid / nt; i < (int64_t){n} * (tid + 1) / nt; i++) y[i] = w[0] * x[i] + w[1];
}}
#endif
#if NEVE_UNIT == 0
typedef struct {{ NAME *ctx; const NAME_forward_io *io; }} call;
static void body(void *arg, int32_t tid, int32_t nt) {{
    call *c = arg;
    NAME_kernel(c->ctx->weights, c->io->x, c->io->y, tid, nt);
}}
NEVE_API int NAME_init(NAME *ctx, const void *weights, size_t size) {{
    if (size != 8 || (uintptr_t)weights % 64) return NEVE_BAD_WEIGHTS;
    ctx->weights = weights;
    return NEVE_OK;
}}
NEVE_API void NAME_reset(NAME *ctx) {{ (void)ctx; }}
NEVE_API int NAME_forward(NAME *ctx, const NAME_forward_io *io, const neve_parallel *p) {{
    call c = {{ctx, io}};
    if ({n} && (!io->x || !io->y)) return NEVE_BAD_POINTER;
    if (p && p->threads > 1) p->run(p->host, body, &c);
    else body(&c, 0, 1);
    return NEVE_OK;
}}
#endif
""".replace("NAME", name)
    common = (
        _COMMON.replace("NAME", name).replace('.h"\n', '.h"\n#if !defined(NEVE_UNIT) || NEVE_UNIT == 0\n') + "#endif\n"
    )
    methods = {"forward": method(f"{name}_forward", [("x", "float32", [n])], [("y", "float32", [n])])}
    source = _source(name, header, "", np.array([2, 1], np.float32), methods, 8, [])
    return Source(name, source.files | {f"{name}.c": common + body}, source.weights, source.signature)


def dynamic(name: str = "dynamic") -> Source:
    """x (s0, 2*s0+1), scale (float) -> rows summed (s0,), doubled with a workspace of 8*s0 bytes; s0 in 1..1000, even
    or 1."""
    header = f"""
typedef struct {name} {{ int64_t calls; }} {name};
typedef struct {name}_forward_io {{ const float *x; const double *scale; float *sums; int64_t s0;
    void *workspace; int64_t workspace_size; }} {name}_forward_io;
"""
    body = """
NEVE_API int NAME_init(NAME *ctx, const void *weights, size_t size) {
    (void)weights;
    ctx->calls = 0;
    return size ? NEVE_BAD_WEIGHTS : NEVE_OK;
}
NEVE_API void NAME_reset(NAME *ctx) { ctx->calls = 0; }
NEVE_API int NAME_forward(NAME *ctx, const NAME_forward_io *io, const neve_parallel *p) {
    (void)p;
    if (io->workspace_size < 8 * io->s0 || (uintptr_t)io->workspace % 64) return NEVE_BAD_SIZE;
    if (io->s0 == 7) return NEVE_RAISED + 1;
    double *sums = io->workspace;
    for (int64_t i = 0; i < io->s0; i++) {
        sums[i] = 0;
        for (int64_t j = 0; j < 2 * io->s0 + 1; j++) sums[i] += io->x[i * (2 * io->s0 + 1) + j];
        io->sums[i] = (float)(sums[i] * *io->scale);
    }
    ctx->calls++;
    return NEVE_OK;
}
""".replace("NAME", name)
    forward = method(
        f"{name}_forward",
        [("x", "float32", ["s0", ["+", ["*", 2, "s0"], 1]]), ("scale", "float64", [])],
        [("sums", "float32", ["s0"])],
        symbols=[{"name": "s0", "min": 0, "max": 1000}],
        guards=[
            {"expr": ["!=", ["%", "s0", 5], 4], "message": "the number of rows must not leave 4 when divided by 5"}
        ],
        workspace=["*", 8, "s0"],
        raises=["never", "seven rows are refused"],
        in_tree={"args": [{"leaf": 0}], "kwargs": {"scale": {"leaf": 1}}, "positional": ["scale"]},
    )
    forward["inputs"][1]["scalar"] = "float"
    return _source(name, header, body, np.zeros(0, np.uint8), {"forward": forward}, 8, [])


def counter(name: str = "counter") -> Source:
    """Two methods on one state: add(x int64 ()) -> total; peek() -> {"total": total, "pair": (total, None)}; starts
    at 5."""
    header = f"""
typedef struct {name} {{ const int64_t *weights; int64_t total; }} {name};
typedef struct {name}_add_io {{ const int64_t *x; int64_t *y; void *w; int64_t n; }} {name}_add_io;
typedef struct {name}_peek_io {{ int64_t *y; int64_t *z; void *w; int64_t n; }} {name}_peek_io;
"""
    body = """
NEVE_API void NAME_reset(NAME *ctx) { ctx->total = *ctx->weights; }
NEVE_API int NAME_init(NAME *ctx, const void *weights, size_t size) {
    if (size != 8) return NEVE_BAD_WEIGHTS;
    ctx->weights = weights;
    NAME_reset(ctx);
    return NEVE_OK;
}
NEVE_API int NAME_add(NAME *ctx, const NAME_add_io *io, const neve_parallel *p) {
    (void)p;
    int64_t total = ctx->total;
    for (volatile int i = 0; i < 1000; i++) { }
    *io->y = ctx->total = total + *io->x;
    return NEVE_OK;
}
NEVE_API int NAME_peek(NAME *ctx, const NAME_peek_io *io, const neve_parallel *p) {
    (void)p;
    *io->y = *io->z = ctx->total;
    return NEVE_OK;
}
""".replace("NAME", name)
    out = {
        "object": {
            "class": "made.Up",
            "fields": {"total": {"leaf": 0}, "pair": {"tuple": [{"leaf": 1}, {"none": True}]}},
        }
    }
    methods = {
        "add": method(f"{name}_add", [("x", "int64", [])], [("y", "int64", [])]),
        "peek": method(f"{name}_peek", [], [("y", "int64", []), ("z", "int64", [])], out_tree=out),
    }
    state = [{"name": "total", "dtype": "int64", "shape": [], "offset": 8}]
    return _source(name, header, body, np.array([5], np.int64), methods, 16, state)


def copier(dtype: str) -> Source:
    """y = x for x of shape (s0, 3) of any dtype."""
    name = f"copier_{dtype}"
    header = f"""
typedef struct {name} {{ int64_t unused; }} {name};
typedef struct {name}_forward_io {{ const char *x; char *y; int64_t s0; void *w; int64_t n; }} {name}_forward_io;
"""
    body = """
NEVE_API int NAME_init(NAME *ctx, const void *weights, size_t size) {
    (void)weights;
    ctx->unused = 0;
    return size ? NEVE_BAD_WEIGHTS : NEVE_OK;
}
NEVE_API void NAME_reset(NAME *ctx) { (void)ctx; }
NEVE_API int NAME_forward(NAME *ctx, const NAME_forward_io *io, const neve_parallel *p) {
    (void)ctx, (void)p;
    if (!io->x || !io->y) return NEVE_BAD_POINTER;
    for (int64_t i = 0; i < io->s0 * 3 * SIZE; i++) io->y[i] = io->x[i];
    return NEVE_OK;
}
""".replace("NAME", name).replace("SIZE", str(DTYPES[dtype]))
    symbols = [{"name": "s0", "min": 0, "max": None}]
    forward = method(f"{name}_forward", [("x", dtype, ["s0", 3])], [("y", dtype, ["s0", 3])], symbols=symbols)
    return _source(name, header, body, np.zeros(0, np.uint8), {"forward": forward}, 8, [])
