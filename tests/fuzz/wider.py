"""Statements of complex numbers, Fourier transforms, lengths that data decide and linear algebra, with weights."""

from __future__ import annotations

from tests.fuzz.grammar import Grower, Unfit
from tests.fuzz.steps import Step
from tests.fuzz.steps import step as step_of

WIDER: dict[Step, float] = {}
FACTORS = ("(0.5 - 1j)", "2j", "0.5", "(1 + 0.25j)")


def step(weight: float = 1.0):  # type: ignore[no-untyped-def]
    return step_of(weight, table=WIDER)


def single(g: Grower, least: int = 0) -> str:
    """A tensor of a type that Fourier transforms and factorizations have."""
    return g.pick(lambda t: str(t.dtype) in ("torch.float32", "torch.float64") and least <= t.dim() <= 4)


def numbers(g: Grower, least: int = 0) -> str:
    return g.pick(lambda t: t.is_complex() and t.dim() >= least)


# --- complex numbers --------------------------------------------------------------------------------------------------


@step(3)
def made(g: Grower) -> str:
    x = single(g)
    y = g.pick(lambda t: t.shape == g.value(x).shape and t.dtype == g.value(x).dtype)
    forms = (f"torch.complex({x}, {y})", f"torch.polar({x}.abs() + 0.5, {y})", f"{x} * {g.r.choice(FACTORS)} + {y}")
    return f"{g.new()} = {g.r.choice(forms)}"


@step(4)
def computed(g: Grower) -> str:
    z = numbers(g)
    w = g.pick(lambda t: (t.is_complex() or t.is_floating_point()) and t.shape == g.value(z).shape)
    forms = (
        f"{z} * {w}", f"{z} + {w}.conj()" if g.value(w).is_complex() else f"{z} - {w}",
        f"{z} / ({w}.abs() + 1)", f"{z} * {g.r.choice(FACTORS)}", f"{z}.conj()", f"{z} - 1j", f"torch.exp({z} * 0.1)",
        f"torch.tanh({z} * 0.2)", f"torch.sin({z} * 0.2)", f"torch.square({z})", f"{z}.sgn() * {w}", f"-{z}",
        f"torch.where({z}.real > 0, {z}, {w})", f"{z}.clone().mul_(0.5)",
    )  # fmt: skip
    return f"{g.new()} = {g.r.choice(forms)}"


@step(4)
def reals_of(g: Grower) -> str:
    z = numbers(g)
    forms = (
        f"{z}.real",
        f"{z}.imag",
        f"{z}.abs()",
        f"torch.view_as_real({z})",
        f"{z}.real + {z}.imag",
        f"{z}.abs() ** 2",
    )
    return f"{g.new()} = {g.r.choice(forms)}"


@step(2)
def moved(g: Grower) -> str:
    z = numbers(g, 1)
    k = g.axis(z)
    forms = (
        f"{z}.sum({k})", f"{z}.mean({k}, keepdim=True)", f"{z}.flip({k})", f"{z}.cumsum({k})", f"{z}.roll(1, {k})",
        f"torch.cat(({z}, {z}.conj()), {k})", f"{z}.narrow({k}, 0, 1)", f"{z}.var({k})",
        f"torch.linalg.vector_norm({z}, 2, {k})",
    )  # fmt: skip
    return f"{g.new()} = {g.r.choice(forms)}"


@step(2)
def multiplied(g: Grower) -> str:
    z = numbers(g, 2)
    return f"{g.new()} = {z} @ {z}.{g.r.choice(('mH', 'mT'))} * 0.1"


@step(4)
def transformed(g: Grower) -> str:
    x = single(g, 1) if g.r.random() < 0.7 else numbers(g, 1)
    k = g.axis(x)
    g.static(x, k)
    norm = g.r.choice(("", ", norm='ortho'", ", norm='forward'"))
    if g.value(x).is_complex():
        f = g.r.choice(("fft", "ifft", "irfft"))
        n = f", n={g.r.choice((4, 6, 7))}" if f == "irfft" else ""
        return f"{g.new()} = torch.fft.{f}({x}{n}, dim={k}{norm})"
    return f"{g.new()} = torch.fft.{g.r.choice(('fft', 'rfft', 'rfft', 'ifft'))}({x}, dim={k}{norm})"


# --- lengths that data decide, reduced to what has a fixed shape ----------------------------------------------------


@step(3)
def chosen(g: Grower) -> str:
    x = g.floating(1)
    v = g.new()
    forms = (
        f"{v} = {x}[{x} > 0].sum()",
        f"{v} = torch.nonzero({x} > 0).sum(0)",
        f"{v} = torch.masked_select({x}, {x} < 0.5).sum()",
        f"{v} = {x}[{x}.flatten(1).sum(1) > 0].sum(0)" if g.value(x).dim() > 1 else f"{v} = {x}[{x} > 0.1].sum(0)",
        f"{v} = torch.unique({x}.flatten().round()).sum()",
        f"{v} = torch.unique({x}.flatten() > 0, return_counts=True)[1].sum()",
        f"{v} = torch.unique_consecutive(({x}.flatten() > 0).long())[0]",
        f"{v} = torch.bincount({x}.flatten().long().clamp(0, 5), minlength=6)",
        f"{v} = {x}.clone()\n{v}[{x} > 0] = 0.5",
        f"{v} = {x}.clone()\n{v}[{x} < 0] *= 2",
        f"{v} = torch.repeat_interleave({x}, ({x}.flatten(1)[:, 0] > 0).long() + 1, 0).sum(0)"
        if g.value(x).dim() > 1
        else f"{v} = torch.repeat_interleave({x}, ({x} > 0).long()).sum()",
        f"{v} = {x}[{x}.argsort(0)[0] >= 0].sum(0)"
        if g.value(x).dim() == 1
        else f"{v} = ({x} > 0).nonzero().size(0)\n{v} = {x} * {v}",
    )
    return g.r.choice(forms)


# --- linear algebra, of matrices that are far from singular ---------------------------------------------------------


@step(4)
def factorized(g: Grower) -> str:
    x = single(g, 2)
    n = g.static(x, -2)
    g.static(x, -1)
    if not 0 < n <= 8:
        raise Unfit
    v = g.new()
    square = f"({x} @ {x}.mT * 0.1 + {n} * torch.eye({n}, dtype={x}.dtype))"
    forms = (
        f"torch.linalg.inv({square})", f"torch.linalg.solve({square}, {x})", f"torch.linalg.cholesky({square})",
        f"torch.linalg.slogdet({square})[1]", f"torch.logdet({square})", f"torch.linalg.det({square} / {n})",
        f"torch.linalg.eigvalsh({square})", f"torch.linalg.svdvals({x})", f"torch.linalg.matrix_exp({square} * 0.05)",
        f"torch.linalg.qr({square})[1]", f"torch.cholesky_solve({x}, torch.linalg.cholesky({square}))",
        f"torch.linalg.solve_triangular({square}.triu(), {x}, upper=True)", f"torch.linalg.pinv({square})",
        f"torch.linalg.matrix_norm({x}, 'nuc')", f"torch.linalg.matrix_power({square} * 0.1, 3)",
        f"torch.linalg.lu_solve(*torch.linalg.lu_factor({square}), {x})", f"torch.linalg.cond({square})",
    )  # fmt: skip
    return f"{v} = {g.r.choice(forms)}"
