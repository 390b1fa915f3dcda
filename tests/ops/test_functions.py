"""Every C form of the scalar functions, compiled, against the numpy function of the op of the same name."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from neve.emit.functions import FUNCTIONS
from neve.ir.types import DType
from neve.ops.base import REGISTRY
from neve.ops.pointwise import Pointwise, kind
from tests.kernels.harness import Kernel, load
from tests.ops.loops_numpy import EXTRA

C = {
    DType.float64: "double",
    DType.float32: "float",
    DType.int64: "int64_t",
    DType.int32: "int32_t",
    DType.uint8: "uint8_t",
    DType.bool: "uint8_t",
}
UNSIGNED = {DType.int64: "uint64_t", DType.int32: "uint32_t", DType.uint8: "uint32_t"}
ROUNDINGS = {"float32": 8 * 2.0**-23, "float64": 2.0**-40}
COUNT = 128


def arity(name: str) -> int:
    return 1 + max(k for k in range(3) if any(f"{{{k}}}" in form for form in FUNCTIONS[name].values()))


def forms() -> Iterator[tuple[str, DType, str]]:
    """(function, type of its data, kind of form)."""
    for name in FUNCTIONS:
        for dtype in C:
            scalar = "d" if dtype is DType.float64 else kind(dtype)
            if scalar in FUNCTIONS[name]:
                yield name, dtype, scalar
        if "v" in FUNCTIONS[name]:
            yield name, DType.float32, "v"
        if "m" in FUNCTIONS[name]:
            yield name, DType.bool, "m"


def is_predicate(name: str) -> bool:
    cls = REGISTRY.get(name)
    return cls is not None and issubclass(cls, Pointwise) and cls.predicate


def body(number: int, name: str, dtype: DType, form: str) -> str:
    """`case number:` of the kernel: out[i] = name(p[0][i], …)."""
    bools = dtype is DType.bool or is_predicate(name)
    out = "uint8_t" if bools else C[dtype]
    values = [("uint8_t" if name == "where" and k == 0 else C[dtype]) for k in range(arity(name))]
    if form in "vm":
        mask = [form == "m" or t == "uint8_t" for t in values]
        lines = [
            f"vi a{k}; for (int j = 0; j < NEVE_VL; j++) a{k}[j] = -((({t} *)p[{k}])[i + j] != 0);"
            if m
            else f"vf a{k} = vload(({t} *)p[{k}] + i);"
            for k, (t, m) in enumerate(zip(values, mask, strict=True))
        ]
        text = FUNCTIONS[name][form].format("a0", "a1", "a2")
        store = (
            f"vi r = {text}; for (int j = 0; j < NEVE_VL; j++) (({out} *)p[3])[i + j] = r[j] != 0;"
            if bools
            else f"vstore(({out} *)p[3] + i, {text});"
        )
        step = "NEVE_VL"
    else:
        lines = [f"{t} a{k} = (({t} *)p[{k}])[i];" for k, t in enumerate(values)]
        text = FUNCTIONS[name][form].format(
            "a0", "a1", "a2", T=C[dtype], U=UNSIGNED.get(dtype, "uint8_t"), B=8 * dtype.size
        )
        store, step = f"(({out} *)p[3])[i] = {text};", "1"
    unused = "".join(f" (void)a{k};" for k in range(len(lines)))
    return (
        f"case {number}: for (int64_t i = 0; i < {COUNT}; i += {step}) {{ {' '.join(lines)}{unused} {store} }} break;"
    )


FORMS = list(forms())


@pytest.fixture(scope="module")
def kernel() -> Kernel:
    cases = "\n".join(body(k, *f) for k, f in enumerate(FORMS))
    source = '#include "rt.h"\n#include "vec.h"\n#include "math.h"\n'
    head = "static void all(void *const *p, const int64_t *s, neve_thread *th)\n{\n(void)th;\nswitch (s[0]) {\n"
    return load(f"{source}{head}{cases}\n}}\n}}\n", "gcc", "all")


def inputs(name: str, dtype: DType) -> list[np.ndarray]:
    rng = np.random.default_rng(len(name))
    if dtype is DType.bool:
        return [rng.integers(0, 2, COUNT).astype(bool) for _ in range(3)]
    if dtype.is_int:
        low = 0 if dtype is DType.uint8 else -100
        xs = [rng.integers(low, 100, COUNT) for _ in range(3)]
        if name == "pow" or name.endswith("shift"):
            xs[0], xs[1] = xs[0] % 7 - (3 if low else 0), xs[1] % 70 - (5 if low else 0)
            xs[1] = xs[1] % 9 if name == "pow" else xs[1]
        elif name in ("floor_divide", "trunc_divide", "remainder", "fmod"):
            xs[1][xs[1] == 0] = 7
        else:
            xs[0][:2] = np.iinfo(dtype.numpy).min, np.iinfo(dtype.numpy).max
        return [x.astype(dtype.numpy) for x in xs]
    cls = REGISTRY.get(name)
    begin, end = cls.domain if cls is not None and issubclass(cls, Pointwise) else (0.5, 9.0)
    floats = [rng.uniform(begin, end, COUNT) for _ in range(3)]
    edges = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -1.0, 0.5])
    if name not in ("trigamma", "polygamma"):
        floats[0][:64], floats[1][:64] = np.repeat(edges, 8), np.tile(edges, 8)
    if name.endswith("_number"):
        floats[1] = np.nan_to_num(floats[1], nan=2.0, posinf=np.inf, neginf=-np.inf)
    if name == "polygamma":
        floats[0] = np.asarray(np.arange(COUNT) % 6, float)
    return [x.astype(dtype.numpy) for x in floats]


@pytest.mark.parametrize("number", range(len(FORMS)), ids=[f"{n}-{d}-{k}" for n, d, k in FORMS])
def test_form(kernel: Kernel, number: int) -> None:
    name, dtype, _ = FORMS[number]
    xs = inputs(name, dtype)[: arity(name)]
    if name == "where":
        xs[0] = np.arange(COUNT) % 3 == 0
    out = np.zeros(COUNT, bool if is_predicate(name) else dtype.numpy)
    kernel([*xs, *[None] * (3 - len(xs)), out], [number])
    with np.errstate(all="ignore"):
        function = EXTRA.get(name) or REGISTRY[name].function  # type: ignore[attr-defined]
        want = np.asarray(function(*xs)).astype(out.dtype)
    if out.dtype.kind != "f":
        np.testing.assert_array_equal(out, want)
        return
    rough = {"trigamma": 2e-9, "polygamma": 2e-9, "airy_ai": 1e-9} if dtype is DType.float64 else {}
    rounding = rough.get(name, ROUNDINGS[dtype.value])
    np.testing.assert_allclose(out, want, rtol=rounding, atol=rounding / 4 * (16 if "polynomial" in name else 1))
    if name in ("copysign", "neg", "abs", "add", "mul", "floor", "ceil", "trunc", "round", "fmod"):
        np.testing.assert_array_equal(np.signbit(out[want == want]), np.signbit(want[want == want]))
