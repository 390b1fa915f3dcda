"""The ops that `optimize_for_mobile` wrote, as the plain ones: weights are carried unpacked in the archive.

A context's state is what its __getstate__ gave: for linear (weight, bias, min, max), for conv2d (weight, bias, stride,
padding, dilation, groups, min, max), for the transposed one (weight, bias, stride, padding, output_padding, dilation,
groups, min, max). min and max clamp the result; either may be None.
"""

from __future__ import annotations

from typing import Any

from neve.capture.torchscript.pickles import Obj
from neve.capture.torchscript.tape import ATEN, Recorder
from neve.capture.torchscript.values import Num, Refusal, Var, describe

CLASSES = "__torch__.torch.classes.xnnpack."
FIELDS = {
    "linear_clamp": ("LinearOpContext", ("weight", "bias", "min", "max")),
    "conv2d_clamp": (
        "Conv2dOpContext",
        ("weight", "bias", "stride", "padding", "dilation", "groups", "min", "max"),
    ),
    "conv2d_transpose_clamp": (
        "TransposeConv2dOpContext",
        ("weight", "bias", "stride", "padding", "output_padding", "dilation", "groups", "min", "max"),
    ),
}


def call(tape: Recorder, name: str, args: list[Any]) -> Any:
    """prepacked::NAME. Refusal if there is no such op, or it gets another op's context."""
    kind, _, what = name.rpartition("_")
    if kind in FIELDS and what == "prepack":
        return _prepack(kind, args)
    if kind not in FIELDS or what != "run" or len(args) != 2:
        raise Refusal(f"prepacked::{name} is not supported")
    x, context = args
    cls, fields = FIELDS[kind]
    state = context.packed if isinstance(context, Obj) and context.cls == CLASSES + cls else None
    if not isinstance(state, tuple) or len(state) != len(fields):
        raise Refusal(f"prepacked::{name} wants a {cls}, got {describe(context)}")
    p = dict(zip(fields, state, strict=True))
    if kind == "linear_clamp":
        y = tape.call(ATEN.linear.default, x, p["weight"], p["bias"])
    elif kind == "conv2d_clamp":
        y = tape.call(
            ATEN.conv2d.default, x, p["weight"], p["bias"], p["stride"], p["padding"], p["dilation"], p["groups"]
        )
    else:
        y = tape.call(
            ATEN.conv_transpose2d.input, x, p["weight"], p["bias"], p["stride"], p["padding"], p["output_padding"],
            p["groups"], p["dilation"],
        )  # fmt: skip
    return _clamped(tape, y, p["min"], p["max"])


def _clamped(tape: Recorder, y: Var, low: Any, high: Any) -> Var:
    if any(isinstance(v, Num) for v in (low, high)):
        raise Refusal("the bounds of a packed clamp depend on the inputs")
    if low is None and high is None:
        return y
    return tape.tensor(ATEN.clamp.default, y, low, high)


def _prepack(kind: str, args: list[Any]) -> Obj:
    """A context made at run time: prepack(weight, bias, [stride, padding, (output_padding,) dilation, groups,] clamp).

    conv2d_transpose's op takes its output padding before the dilation, as the state does.
    """
    cls, fields = FIELDS[kind]
    given = [*args, *(None,) * (len(fields) - len(args))]
    if len(args) > len(fields) or not isinstance(given[0], Var):
        raise Refusal(f"prepacked::{kind}_prepack takes {', '.join(fields)}")
    return Obj(CLASSES + cls, packed=tuple(given))
