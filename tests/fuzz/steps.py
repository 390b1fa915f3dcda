"""Statements of functional ops, views, writes, masks, integers, state and control flow, each with its weight."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from tests.fuzz.grammar import Grower, Unfit

Step = Callable[[Grower], str]
SIZES = (1, 2, 3, 4, 5, 6, 8, 9, 16)
INTS = ("int64", "int64", "int32", "int16", "int8", "uint8")
CASTS = ("float32", "float32", "float64", "float16", "bfloat16", "int64", "int32", "int8", "uint8", "bool")

STEPS: dict[Step, float] = {}
STATE: dict[Step, float] = {}
FLOW: dict[Step, float] = {}


def step(weight: float = 1.0, exact: bool = False, table: dict[Step, float] = STEPS) -> Callable[[Step], Step]:
    """Adds a step to a table; exact: exact operands give an exact result."""

    def add(f: Step) -> Step:
        f.exact = exact  # type: ignore[attr-defined]
        table[f] = weight
        return f

    return add


def begin(g: Grower, dtype: str) -> None:
    """The arguments: floats of one batch, perhaps integers and a mask."""
    r = g.r
    batch: Any = "n" if len(g.sizes) > 1 else r.choice(SIZES[:6])
    length = r.choice(SIZES[1:8])
    if len(g.sizes) > 1 and r.random() < 0.4:
        batch, length = r.choice((1, 2, 3)), "n"
    rank = r.choice((1, 2, 2, 3, 3, 3, 4, 4))
    shape = [batch, r.choice((2, 3, 4, 6, 8)), r.choice(SIZES[2:]), r.choice(SIZES[2:8])][:rank]
    if length == "n":
        shape = [batch, r.choice((2, 4, 8)), length][:3] if r.random() < 0.5 else [batch, length, r.choice((3, 4, 8))]
    dynamic = lambda s: tuple(k for k, d in enumerate(s) if d == "n")  # noqa: E731
    text = lambda s: ", ".join(map(str, s))  # noqa: E731
    g.argument(f"torch.randn({text(shape)}, dtype=torch.{dtype})", dynamic(shape))
    if r.random() < 0.5:
        g.argument(f"torch.randn({text(shape)}, dtype=torch.{dtype})", dynamic(shape))
    if r.random() < 0.35:
        other = shape[: r.randint(1, 2)]
        most = r.choice((2, 5, 9, 200))
        g.argument(
            f"torch.randint({r.choice((0, 0, -most))}, {most}, ({text(other)},))"
            f"{r.choice(('', '', '.int()', '.to(torch.uint8)', '.to(torch.int8)'))}",
            dynamic(other),
        )
    if r.random() < 0.3:
        other = shape[: r.choice((1, 2, len(shape)))]
        g.argument(f"torch.rand({text(other)}) > 0.4", dynamic(other))


def number(g: Grower) -> str:
    return g.r.choice(("0.5", "2", "-1", "0.1", "1.5", "3", "-0.25", "7.0", "0.3"))


# --- pointwise --------------------------------------------------------------------------------------------------------

ACTIVATIONS = """F.relu F.gelu F.silu F.elu F.selu F.celu F.hardswish F.hardsigmoid F.mish F.softplus F.leaky_relu
F.relu6 F.logsigmoid F.softsign F.tanhshrink F.hardtanh F.softshrink F.hardshrink torch.tanh torch.sigmoid
torch.sin torch.cos torch.erf torch.atan torch.exp torch.expm1 torch.square torch.sinh torch.asinh""".split()  # noqa: SIM905
SAME_BITS = "F.relu torch.neg torch.abs F.hardtanh F.relu6 torch.sign".split()  # noqa: SIM905
JUMPS = "floor ceil trunc round frac sign".split()  # noqa: SIM905


@step(4)
def activation(g: Grower) -> str:
    x = g.floating()
    return f"{g.new()} = {g.r.choice(ACTIVATIONS)}({x})"


@step(1, exact=True)
def exact_unary(g: Grower) -> str:
    x = g.floating()
    return f"{g.new()} = {g.r.choice(SAME_BITS)}({x})"


@step(1)
def of_positive(g: Grower) -> str:
    x = g.floating()
    f = g.r.choice(("sqrt", "rsqrt", "log", "log1p", "reciprocal", "log2"))
    return f"{g.new()} = torch.{f}({x}.abs() + {g.r.choice(('0.5', '1', '0.1'))})"


@step(5)
def binary(g: Grower) -> str:
    x = g.floating()
    y = g.like(x, g.r.random() < 0.8)
    op = g.r.choice(("+", "-", "*", "*", "+"))
    return f"{g.new()} = {x} {op} {y}"


@step(1)
def division(g: Grower) -> str:
    x = g.floating()
    y = g.like(x)
    return f"{g.new()} = {x} / ({y}.abs() + {g.r.choice(('1', '0.5'))})"


@step(2, exact=True)
def extremum(g: Grower) -> str:
    x = g.floating()
    y = g.like(x)
    return f"{g.new()} = torch.{g.r.choice(('maximum', 'minimum', 'fmax', 'fmin'))}({x}, {y})"


@step(2)
def with_number(g: Grower) -> str:
    x = g.floating()
    c = number(g)
    forms = (
        f"{x} * {c}",
        f"{x} + {c}",
        f"{x} / {c}",
        f"{c} - {x}",
        f"{c} * {x} + 1",
        f"torch.rsub({x}, {c})",
        f"torch.add({x}, {x}, alpha={c})",
        f"{x} ** 2",
        f"{x}.pow(3)",
        f"{x}.lerp({x} * 2, 0.3)",
    )
    return f"{g.new()} = {g.r.choice(forms)}"


@step(1, exact=True)
def clamp(g: Grower) -> str:
    x = g.floating()
    form = g.r.choice(("min=-0.5, max=0.5", "min=0", "max=1.0", "-1, 1"))
    return f"{g.new()} = {x}.clamp({form})"


@step(1.5)
def jump(g: Grower) -> str:
    """Rounding steps after exact arithmetic: an op or two that eager rounds once each."""
    x = g.floating(exact=True)
    c = g.r.choice(("0.3", "0.7", "3", "41", "47", "0.1", "5"))
    inner = g.r.choice((x, f"{x} / {c}", f"{x} * {c}", f"({x} + 0.5)", f"({x} * 8 - {c})", f"{x} / {c} + 1"))
    return f"{g.new()} = torch.{g.r.choice(JUMPS)}({inner})"


@step(1)
def float_mod(g: Grower) -> str:
    x = g.floating(exact=True)
    form = g.r.choice(
        (
            f"torch.remainder({x}, {g.r.choice(('0.7', '2', '-3', '1.5'))})",
            f"torch.fmod({x}, 0.7)",
            f"{x} // {g.r.choice(('0.3', '2', '-1.5'))}",
            f'torch.div({x}, {g.r.choice(("0.7", "3"))}, rounding_mode="{g.r.choice(("floor", "trunc"))}")',
        )
    )
    return f"{g.new()} = {form}"


@step(1.5, exact=True)
def cast(g: Grower) -> str:
    to = g.r.choice(CASTS)
    x = g.pick(exact=not to.startswith(("float", "bfloat")))
    t = g.value(x)
    if to == "uint8" and t.is_floating_point():
        return f"{g.new()} = {x}.abs().clamp(max=100).to(torch.uint8)"
    if t.is_floating_point() and not to.startswith(("float", "bfloat", "bool")):
        return f"{g.new()} = ({x} * {g.r.choice(('1', '4', '10'))}).clamp(-100, 100).to(torch.{to})"
    return f"{g.new()} = {x}.to(torch.{to})"


# --- masks ------------------------------------------------------------------------------------------------------------


@step(2)
def compare(g: Grower) -> str:
    x = g.pick(exact=True)
    op = g.r.choice(("<", ">", "<=", ">=", "==", "!="))
    y = g.r.choice(("0", "0.5", "1", "-1"))
    if g.r.random() < 0.4:
        v = g.value(x)
        y = g.pick(lambda t: t.dtype == v.dtype and t.shape == v.shape, exact=True)
    return f"{g.new()} = {x} {op} {y}"


@step(1.5)
def logic(g: Grower) -> str:
    m = g.mask()
    k = g.pick(lambda t: t.dtype is torch.bool and t.shape == g.value(m).shape)
    forms = (
        f"~{m}",
        f"{m} & {k}",
        f"{m} | {k}",
        f"{m} ^ {k}",
        f"{m}.logical_not()",
        f"{m}.any(-1)",
        f"{m}.all(0)",
        f"{m}.sum(-1)",
        f"{m}.float()",
        f"{m}.cumsum(-1)",
        f"{m}.any()",
    )
    return f"{g.new()} = {g.r.choice(forms)}"


@step(2)
def where(g: Grower) -> str:
    m = g.mask()
    x = g.like(m, False)
    if g.value(x).dtype is torch.bool:
        raise Unfit
    y = g.r.choice((g.like(x), number(g) if g.value(x).is_floating_point() else "3"))
    return f"{g.new()} = {g.r.choice((f'torch.where({m}, {x}, {y})', f'{x}.masked_fill({m}, 2)'))}"


# --- integers ---------------------------------------------------------------------------------------------------------


@step(2)
def whole(g: Grower) -> str:
    x = g.integer()
    c = g.r.choice(("2", "3", "7", "-3", "5"))
    y = g.like(x)
    forms = (
        f"{x} // {c}",
        f"{x} % {c}",
        f"{x} << 1",
        f"{x} >> 1",
        f"{x} & {c}",
        f"{x} | 4",
        f"{x} ^ {y}",
        f"~{x}",
        f"{x} * {c}",
        f"{x} + {y}",
        f"{x} * {y}",
        f"{x} - {y}",
        f"-{x}",
        f"{x}.abs()",
        f"{x}.clamp(0, 5)",
        f"{x} / {c}",
        f"{x} * 0.5",
        f"{x}.float()",
        f"torch.maximum({x}, {y})",
        f"{x} // ({y}.abs() + 1)",
        f'torch.div({x}, {c}, rounding_mode="trunc")',
        f"torch.fmod({x}, {c})",
        f"{x} ** 2",
        f"{x}.sum(-1)",
        f"{x}.cumsum(0)",
        f"{x}.amax(-1)",
        f"{x}.sign()",
        f"torch.bitwise_and({x}, {y})",
        f"{x} % ({y} | 1)",
        f"{x}.prod(0)",
        f"{x}.min()",
        f"1 - {x}",
    )
    return f"{g.new()} = {g.r.choice(forms)}"


@step(1)
def mixed(g: Grower) -> str:
    x = g.integer()
    y = g.like(x, False)
    return f"{g.new()} = {g.r.choice((f'{x} + {y}', f'{y} * {x}', f'torch.true_divide({y}, {x}.abs() + 1)'))}"


@step(0.7)
def fresh(g: Grower) -> str:
    x = g.pick(lambda t: t.dim() > 0)
    k = g.axis(x)
    t = g.r.choice(("torch.float32", "torch.int64", f"{x}.dtype"))
    n = f"{x}.shape[{k}]"
    forms = (
        f"torch.arange({n}, dtype={t})",
        f"torch.ones({n}, 2, dtype={t})",
        f"torch.zeros_like({x})",
        f"torch.full(({n},), 3, dtype={t})",
        f"torch.arange({n}) + 1",
        f"torch.linspace(0, 1, {n})",
        f"torch.eye({n})",
        f"torch.ones_like({x})",
        f"{x}.new_zeros({n}, 3)",
        f"torch.tensor({n})",
    )
    return f"{g.new()} = {g.r.choice(forms)}"


# --- shapes -----------------------------------------------------------------------------------------------------------


@step(3, exact=True)
def view(g: Grower) -> str:
    x = g.pick(lambda t: t.dim() > 0)
    n, k = g.value(x).dim(), g.axis(x)
    j = g.axis(x)
    order = g.r.sample(range(n), n)
    forms = [
        f"{x}.transpose({k}, {j})",
        f"{x}.permute({', '.join(map(str, order))})",
        f"{x}.unsqueeze({k})",
        f"{x}.flatten({min(k % n, j % n)}, {max(k % n, j % n)})",
        f"{x}.flip({k})",
        f"{x}.roll(1, {k})",
        f"{x}.select({k}, {g.r.choice((0, -1))})",
        f"{x}.narrow({k}, 0, 1)",
        f"{x}.squeeze()",
        f"{x}[..., {g.r.choice(('0', '1:', ':-1', '::2', '-2:', 'None'))}]",
        f"{x}[{g.r.choice(('0', '1:', ':-1', '::2', '-1', 'None', ':, 0', ':, 1:'))}]",
        f"{x}.reshape(-1)",
        f"{x}.unsqueeze(0).expand(3, *{x}.shape)",
        f"{x}.repeat({', '.join(['1'] * (n - 1) + ['2'])})",
        f"{x}.repeat_interleave(2, {k})",
        f"{x}.movedim({k}, {j})",
        f"{x}.contiguous()",
        f"{x}.clone()",
        f"{x}.reshape({x}.shape[0], -1)",
        f"{x}.T" if n == 2 else f"{x}.mT" if n > 2 else x + ".view(-1, 1)",
        f"{x}.tile(2)",
        f"{x}.view({x}.shape[0], -1)",
    ]
    if n >= 2:
        forms += [f"{x}.diagonal(0, {k}, {j})", f"torch.tril({x})", f"torch.triu({x}, 1)", f"torch.rot90({x})"]
    size = g.shape(x)[k]
    if size is not None and size % 2 == 0:
        forms += [f"{x}.unflatten({k}, (2, -1))", f"{x}.unflatten({k}, (-1, 2))"] * 2
    return f"{g.new()} = {g.r.choice(forms)}"


@step(2, exact=True)
def join(g: Grower) -> str:
    x = g.pick(lambda t: t.dim() > 0)
    v = g.value(x)
    k = g.axis(x)
    cut = lambda s: [d for i, d in enumerate(s) if i != k % v.dim()]  # noqa: E731
    y = g.pick(lambda t: t.dim() == v.dim() and cut(t.shape) == cut(v.shape) and t.dtype == v.dtype)
    z = g.r.choice((x, y))
    if g.value(y).shape == v.shape and g.r.random() < 0.4:
        return f"{g.new()} = torch.stack([{x}, {y}], {k})"
    return (
        f"{g.new()} = torch.cat([{x}, {y}, {z}], {k})"
        if g.r.random() < 0.3
        else f"{g.new()} = torch.cat(({x}, {y}), {k})"
    )


@step(1.5, exact=True)
def parts(g: Grower) -> str:
    x = g.pick(lambda t: t.dim() > 0)
    k = g.axis(x)
    size = g.static(x, k)
    if size < 2:
        raise Unfit
    a, b = g.new(), g.new()
    first = g.r.randint(1, size - 1)
    forms = (f"{x}.split([{first}, {size - first}], {k})", f"{x}.chunk(2, {k})", f"{x}.tensor_split(2, {k})")
    return f"{a}, {b} = {g.r.choice(forms)}"


@step(1)
def pad(g: Grower) -> str:
    x = g.floating(1, 4)
    n = g.value(x).dim()
    if n >= 3 and g.r.random() < 0.5:
        mode = g.r.choice(("reflect", "replicate", "circular"))
        return f'{g.new()} = F.pad({x}, ({g.r.randint(0, 2)}, {g.r.randint(0, 2)}{", 1, 0" * (n == 4)}), mode="{mode}")'
    sides = ", ".join(str(g.r.randint(-1, 2)) for _ in range(2 * g.r.randint(1, min(n, 2))))
    return f"{g.new()} = F.pad({x}, ({sides}), value={number(g)})"


# --- reductions and along axes ----------------------------------------------------------------------------------------


@step(3)
def reduction(g: Grower) -> str:
    x = g.floating(1)
    k = g.axis(x)
    keep = g.r.choice(("", ", keepdim=True"))
    forms = [f"{x}.{f}({k}{keep})" for f in ("sum", "mean", "amax", "amin", "logsumexp", "norm", "prod")]
    forms += [
        f"{x}.mean()",
        f"{x}.sum((0, -1)) if {x}.dim() > 1 else {x}.sum()",
        f"{x}.max({k}{keep}).values",
        f"{x}.norm()",
        f"torch.linalg.vector_norm({x}, dim={k}{keep})",
        f"{x}.amax()",
        f"{x}.var({k}, unbiased=False{keep})",
        f"{x}.std({k}, correction=0{keep})",
        f"{x}.abs().max()",
    ]
    return f"{g.new()} = {g.r.choice(forms)}"


@step(2)
def along(g: Grower) -> str:
    x = g.floating(1)
    k = g.axis(x)
    forms = (
        f"{x}.softmax({k})",
        f"{x}.log_softmax({k})",
        f"{x}.cumsum({k})",
        f"F.normalize({x}, dim={k})",
        f"({x} * 0.5).cumprod({k})",
        f"torch.diff({x}, dim={k})",
        f"{x}.softmax({k})",
        f"torch.logcumsumexp({x}, {k})",
        f"F.softmin({x}, {k})",
        f"F.glu({x}, {k})",
    )
    return f"{g.new()} = {g.r.choice(forms)}"


@step(1.5)
def order(g: Grower) -> str:
    x = g.floating(1, exact=True)
    k = g.axis(x)
    a, b = g.new(), g.new()
    forms = (
        f"{a}, _ = {x}.sort({k})",
        f"{a}, {b} = {x}.sort({k}, stable=True, descending=True)",
        f"{a}, _ = {x}.topk(1, {k})",
        f"{a} = {x}.argmax({k})",
        f"{a} = {x}.argmin({k}, keepdim=True)",
        f"{a}, {b} = {x}.max({k})",
        f"{a}, {b} = {x}.cummax({k})",
        f"{a} = {x}.argsort({k}, stable=True)",
        f"{a} = torch.kthvalue({x}, 1, {k}).values",
        f"{a} = torch.median({x}, {k}).values",
        f"{a}, {b} = {x}.min({k}, keepdim=True)",
    )
    return g.r.choice(forms)


@step(1.5)
def lookup(g: Grower) -> str:
    x = g.floating(1, exact=False)
    i = g.pick(lambda t: t.dtype is torch.int64 and t.dim() > 0)
    n, rank, k = g.value(x).dim(), g.value(i).dim(), g.axis(x)
    size = f"{x}.shape[{k}]"
    safe = g.r.choice((f"({i} % {size})", f"{i}.clamp(0, {size} - 1)", f"{i}.abs().remainder({size})"))
    forms = [f"{x}.index_select({k}, {safe}.reshape(-1))"]
    if k in (0, -n):
        forms += [f"{x}[{safe}]"] * 2
    if rank == n:
        forms += [f"{x}.gather({k}, {safe})", f"torch.take_along_dim({x}, {safe}, {k})"] * 2
        forms += [
            f"{x}.scatter({k}, {safe}, 1.5)",
            f"{x}.scatter_add({k}, {safe}, torch.ones_like({i}, dtype={x}.dtype))",
            f'{x}.scatter_reduce({k}, {safe}, torch.ones_like({i}, dtype={x}.dtype), "amax")',
        ]
    if rank == 1:
        forms += [f"{x}.index_fill({k}, {safe}, 0.5)"]
    return f"{g.new()} = {g.r.choice(forms)}"


@step(0.7)
def hot(g: Grower) -> str:
    i = g.pick(lambda t: t.dtype is torch.int64)
    n = g.r.choice((3, 5, 7))
    return f"{g.new()} = {g.r.choice((f'F.one_hot({i} % {n}, {n})', f'({i}.unsqueeze(-1) == torch.arange({n}))'))}"


# --- products ---------------------------------------------------------------------------------------------------------


@step(2.5)
def product(g: Grower) -> str:
    x = g.floating(1, 4)
    v = g.value(x)
    y = g.pick(lambda t: t.dtype == v.dtype and 1 <= t.dim() <= 4)
    w, n = g.value(y), g.new()
    if v.shape[-1] == w.shape[-1] and w.dim() > 1 and g.r.random() < 0.7:
        forms = [f"{x} @ {y}.transpose(-1, -2)"]
        if v.dim() == w.dim() == 3:
            forms += [
                f'torch.einsum("bik,bjk->bij", {x}, {y})',
                f"torch.bmm({x}, {y}.mT)",
                f"F.scaled_dot_product_attention({x}, {y}, {y})",
            ]
        if v.dim() == w.dim() == 4:
            forms += [
                f'torch.einsum("bhik,bhjk->bhij", {x}, {y})',
                f"F.scaled_dot_product_attention({x}, {y}, {y})",
                f"F.scaled_dot_product_attention({x}, {x}, {x}, is_causal=True)",
            ]
        if v.dim() == w.dim() == 2:
            forms += [f"F.linear({x}, {y})", f'torch.einsum("ik,jk->ij", {x}, {y})', f"torch.cdist({x}, {y})"]
        return f"{n} = {g.r.choice(forms)}"
    if v.dim() == 1 and w.dim() == 1:
        return f"{n} = {g.r.choice((f'torch.outer({x}, {y})', f'{x} @ {y}', f'{x}[:, None] * {y}'))}"
    return f"{n} = torch.matmul({x}, {y})"


@step(1)
def image(g: Grower) -> str:
    x = g.floating(3, 4)
    n = g.value(x).dim()
    if n == 4:
        forms = [f'F.interpolate({x}, scale_factor=2, mode="{m}")' for m in ("nearest", "bilinear", "bicubic")]
        forms += [
            f'F.interpolate({x}, size=({g.r.randint(1, 7)}, {g.r.randint(1, 7)}), mode="bilinear", align_corners=True)',
            f"F.unfold({x}, 2)",
            f"F.pixel_shuffle({x}, 2)",
            f"F.avg_pool2d({x}, 2)",
            f"F.pixel_unshuffle({x}, 2)",
            f"F.max_pool2d({x}, 3, 2, 1)",
            f"F.adaptive_avg_pool2d({x}, {g.r.choice((1, 2, 3))})",
            f'F.interpolate({x}, scale_factor={g.r.choice(("0.5", "1.7", "0.6"))}, mode="nearest")',
            f"F.adaptive_max_pool2d({x}, 1)",
            f"F.lp_pool2d({x}.abs() + 0.5, 2, 2)",
            f"F.channel_shuffle({x}, 2)",
            f"F.avg_pool2d({x}, 3, 1, 1, count_include_pad=False)",
            f"F.local_response_norm({x}, 2)",
        ]
    else:
        forms = [
            f"F.avg_pool1d({x}, 2)",
            f"F.max_pool1d({x}, 2, 1)",
            f"F.adaptive_avg_pool1d({x}, 2)",
            f'F.interpolate({x}, scale_factor=2, mode="linear")',
            f"{x}.unfold(-1, 2, 1)",
            f'F.interpolate({x}, size={g.r.randint(1, 9)}, mode="nearest")',
            f"{x}.unfold(1, 2, 2)",
        ]
    return f"{g.new()} = {g.r.choice(forms)}"


@step(0.7)
def loss(g: Grower) -> str:
    x = g.floating(1)
    y = g.pick(lambda t: t.dtype == g.value(x).dtype and t.shape == g.value(x).shape)
    f = g.r.choice(("mse_loss", "l1_loss", "smooth_l1_loss", "cosine_similarity", "huber_loss", "pairwise_distance"))
    return f"{g.new()} = F.{f}({x}, {y})"


# --- writes -----------------------------------------------------------------------------------------------------------


@step(3)
def write(g: Grower) -> str:
    """Into a name that is no argument, or sometimes is: views of it see it."""
    inputs = {a.name for a in g.arguments}
    x = g.pick(lambda t: t.dim() > 0 and t.dtype is not torch.bool)
    if x in inputs and g.r.random() < 0.8:
        raise Unfit
    v = g.value(x)
    number = "2" if not v.is_floating_point() else g.r.choice(("0.5", "2", "-1"))
    y = g.r.choice((g.like(x), number))
    part = g.r.choice(("[0]", "[..., 0]", "[1:]", "[..., :-1]", "[:, 0]", "[..., ::2]", "[-1]", "[:, 1:]"))
    region = eval(f"v{part}", {"v": v})
    same = [n for n in g.order if _fits(g.value(n).shape, region.shape) and g.value(n).dtype == v.dtype]
    z = g.r.choice([number, *same[-3:]])
    forms = [
        f"{x}.add_({y})",
        f"{x}.mul_({y})",
        f"{x}{part} = {z}",
        f"{x}{part} += {z}",
        f"{x}{part}.mul_({number})",
        f"{x}{part} = {x}{part} * {number}",
        f"{x}.sub_({y})",
        f"{x}{part}.fill_({number})",
        f"{x}{part} = {z}",
        f"{x} *= {number}",
        f"{x}.clamp_(-1, 1)",
        f"{x}.copy_({y})" if y != number else f"{x}.zero_()",
    ]
    if v.is_floating_point():
        forms += [f"{x}.relu_()", f"{x}{part}.sigmoid_()", f"{x}.tanh_()"]
    masks = [n for n in g.order if g.value(n).dtype is torch.bool and _fits(g.value(n).shape, v.shape)]
    if masks:
        m = g.r.choice(masks)
        forms += [f"{x}.masked_fill_({m}, {number})"] * 3
        if g.value(m).shape == v.shape[: g.value(m).dim()]:
            forms += [f"{x}[{m}] = {number}"] * 3
    return g.r.choice(forms)


@step(1)
def indexed_write(g: Grower) -> str:
    x = g.pick(lambda t: t.dim() > 0 and t.is_floating_point())
    if x in {a.name for a in g.arguments}:
        raise Unfit
    i = g.pick(lambda t: t.dtype is torch.int64 and t.dim() == 1)
    safe = f"{i} % {x}.shape[0]"
    forms = (
        f"{x}[{safe}] = 0.5",
        f"{x}.index_add_(0, {safe}, {x}[{safe}])",
        f"{x}.index_fill_(0, {safe}, -1)",
        f"{x}.index_put_(({safe},), torch.tensor(0.5, dtype={x}.dtype), accumulate=True)",
    )
    return g.r.choice(forms)


def _fits(a: torch.Size, b: torch.Size) -> bool:
    return len(a) <= len(b) and all(x in (y, 1) for x, y in zip(reversed(a), reversed(b), strict=False))


# --- state ------------------------------------------------------------------------------------------------------------


def buffer(g: Grower, x: str, fill: str = "zeros") -> str:
    shape = g.shape(x)
    if None in shape:
        raise Unfit
    name = g.layer("None").removeprefix("self.l")
    made = f"torch.{fill}({', '.join(map(str, shape)) or '()'}, dtype={g.value(x).dtype})"
    held = f'self.register_buffer("s{name}", {made})'
    g.pending[-1] = g.r.choice((held, held, held, f"self.s{name} = {made}"))
    return f"self.s{name}"


@step(3, table=STATE)
def kept(g: Grower) -> str:
    x = g.floating()
    s, v = buffer(g, x, g.r.choice(("zeros", "ones"))), g.new()
    forms = (
        f"{v} = {s} * 0.5 + {x}\n{s} = {v}",
        f"{s} = {s} * 0.5 + {x}\n{v} = {s} * 2",
        f"{s}.mul_(0.5).add_({x})\n{v} = {s} + 1",
        f"{v} = {s} + {x}\n{s}.copy_({x})",
        f"{v} = {s}.clone()\n{s}.copy_({x} * 0.5)",
        f"{v} = {s}\n{s} = {x}",
        f"{s} = 0.9 * {s} + 0.1 * {x}\n{v} = {x} - {s}",
        f"{v} = torch.maximum({s}, {x})\n{s} = {v} * 0.5",
    )
    return g.r.choice(forms)


@step(2, table=STATE)
def window(g: Grower) -> str:
    """The last values of an axis kept for the next call, as streaming convolutions do."""
    x = g.floating(1)
    s, v = buffer(g, x), g.new()
    k = g.axis(x)
    n = g.static(x, k)
    forms = (
        f"{v} = torch.cat(({s}, {x}), {k})\n{s} = {v}.narrow({k}, {n}, {n})",
        f"{s} = torch.cat(({s}.narrow({k}, 1, {n - 1}), {x}.narrow({k}, 0, 1)), {k})\n{v} = {s} * 2",
        f"{s}.copy_({s}.roll(-1, {k}))\n{s}[..., -1] = {x}[..., 0]\n{v} = {s} + {x}",
        f"{s}[0] = {x}[0]\n{v} = {s} + {x}",
    )
    return g.r.choice(forms)


@step(1, table=STATE)
def counter(g: Grower) -> str:
    x = g.floating()
    name = g.layer("None").removeprefix("self.l")
    v = g.new()
    g.pending[-1] = f"self.s{name} = {g.r.choice(('0', '1', 'torch.tensor(0)', 'torch.tensor(1.0)'))}"
    s = f"self.s{name}"
    return g.r.choice(
        (f"{s} = {s} + 1\n{v} = {x} * {s}", f"{v} = {x} + {s}\n{s} += 1", f"{s} = ({s} + 1) % 3\n{v} = {x} - {s}")
    )


# --- control flow -----------------------------------------------------------------------------------------------------


@step(2, table=FLOW)
def branch(g: Grower) -> str:
    x = g.floating(exact=True)
    v = g.new()
    test = g.r.choice((f"{x}.sum() > 0", f"bool(({x} > 0).any())", f"{x}.max() > 1", f"{x}.mean() < 0"))
    return f"if {test}:\n    {v} = {x} * 2\nelse:\n    {v} = {g.r.choice((f'{x} - 1', f'torch.tanh({x})'))}"


@step(1, table=FLOW)
def loop(g: Grower) -> str:
    x = g.floating()
    v = g.new()
    return g.r.choice(
        (
            f"{v} = {x}\nwhile {v}.abs().max() > 1:\n    {v} = {v} * 0.5",
            f"{v} = {x}\nfor i in range(3):\n    {v} = {v} + {x} * i",
        )
    )
