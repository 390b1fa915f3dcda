"""Depthwise convolution."""
from __future__ import annotations

from neve.build.target import Target
from neve.plan.templates.choice import Choice
from neve.plan.templates.conv_spec import ConvSpec


def choice(spec: ConvSpec, target: Target) -> Choice:
    """depthwise.h."""
    raise NotImplementedError
