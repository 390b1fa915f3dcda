"""The public calls: a model to a FrozenModule."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from neve.errors import FreezeError
from neve.frozen.module import FUNCTIONS, FrozenModule
from neve.frozen.snapshot import Method, ModuleSnapshot, ProgramSnapshot, Snapshot, snapshot
from neve.frozen.specialise import Call, Options

Examples = Sequence[Any] | Mapping[str, Sequence[Any]] | None


def freeze(
    mod: Any,
    preserved_attrs: Sequence[str] | None = None,
    optimize_numerics: bool = True,
    *,
    example_inputs: Examples = None,
) -> FrozenModule:
    """A snapshot of a model in evaluation mode whose attributes are constants, but for what its methods write.
    Submodules that are in training mode compute what they compute in training: batch statistics, for one.

    mod: nn.Module, ScriptModule, ExportedProgram, a FrozenModule, or the path of a .pt2, .pt or .ptl file.
    preserved_attrs: names of methods (forward always is one), attributes and submodules to keep, dotted paths included:
        methods can be called, attributes are read at run time and can be set, of a submodule everything is kept.
    optimize_numerics: False leaves out passes that may change rounding.
    example_inputs: arguments of forward, or method → arguments, to compile for at once; by default the bundled inputs;
        without any the first call compiles. Other types and shapes than these are compiled for when they are met.

    The semantics are those of `torch.jit.freeze`; where that is wrong, those of the model in PyTorch. Raises TypeError
    for what is no model, FreezeError (a RuntimeError) for one in training mode and for unknown names.
    """
    origin, names = origin_of(mod), names_of(preserved_attrs, "preserved_attrs")
    _refuse_training(origin)
    for name in names:
        if not name or not origin.has(name):
            raise FreezeError(f"Unknown name: {name}")
    return frozen(origin, names, Options(), example_inputs, exact=not optimize_numerics)


def optimize_for_inference(
    mod: Any, other_methods: Sequence[str] | None = None, *, example_inputs: Examples = None
) -> FrozenModule:
    """The model in evaluation mode (as of `neve.compile`) frozen, with all optimizations for forward and other_methods.

    A FrozenModule is optimized in place and returned; a model is not changed (torch sets its mode). Arguments and
    errors as of `freeze`.
    """
    names = names_of(other_methods, "other_methods")
    if isinstance(mod, FrozenModule):
        run_frozen_optimizations(mod, True, names)
        _compile_at_once(mod, example_inputs)
        return mod
    origin = in_evaluation(origin_of(mod))
    for name in names:
        if not origin.has(name) or not isinstance(origin.look(name), Method):
            raise FreezeError(f"Unknown name: {name}" if not origin.has(name) else f"{name} is no method")
    return frozen(origin, names, Options(), example_inputs)


def run_frozen_optimizations(
    mod: Any, optimize_numerics: bool = True, preserved_methods: Sequence[str] | None = None
) -> None:
    """Optimize a FrozenModule in place: forward and the methods named, with passes that may change rounding if
    optimize_numerics says so.

    Any other module, which has parameters instead of constants, is left alone, as by torch. TypeError for what is none.
    """
    names = names_of(preserved_methods, "preserved_methods")
    if not isinstance(mod, FrozenModule):
        from torch import nn

        if not isinstance(mod, nn.Module):
            raise TypeError(f"Got {type(mod)}, but a frozen module is expected: neve.freeze makes one")
        return
    unknown = [n for n in names if n not in mod._methods]
    if unknown:
        raise FreezeError(f"Unknown name: {', '.join(unknown)}")
    code = mod._code
    if optimize_numerics:
        code.use(replace(code.options, exact=code.options.exact - {"forward", *names}))


def frozen(
    origin: Snapshot, names: Sequence[str], options: Options, example_inputs: Examples, exact: bool = False
) -> FrozenModule:
    """The FrozenModule with these names preserved, compiled for the examples if there are any."""
    methods = dict.fromkeys(("forward",) if _has_forward(origin) else ())
    for name in names:
        methods.update(dict.fromkeys(origin.methods(name)))
    kept = [n for n in dict.fromkeys(names) if not isinstance(origin.look(n), Method)]
    made = FrozenModule(origin, list(methods), kept, replace(options, exact=frozenset(methods if exact else ())))
    _compile_at_once(made, example_inputs)
    return made


def in_evaluation(origin: Snapshot) -> Snapshot:
    """The snapshot in evaluation mode: with all of its modules, unless the model itself is in that mode already."""
    if isinstance(origin, ModuleSnapshot) and origin.model.training:
        origin.model.eval()
    return origin


def examples_of(module: FrozenModule, given: Examples) -> dict[str, Call]:
    """Method → example call: those given, else the bundled ones, else those that came with an ExportedProgram."""
    if given is not None:
        wanted = given if isinstance(given, Mapping) else {"forward": given}
        unknown = [m for m in wanted if m not in module._methods]
        if unknown:
            raise FreezeError(
                f"example_inputs has {', '.join(unknown)}, which is no method that is kept; there is "
                f"{', '.join(module._methods) or 'none'}"
            )
        wrong = next((m for m, args in wanted.items() if not isinstance(args, (tuple, list))), None)
        if wrong is not None:
            raise TypeError(
                f"example_inputs of {wrong} is a {type(wanted[wrong]).__name__}, wanted a tuple of arguments: (x,)"
            )
        return {m: (tuple(args), {}) for m, args in wanted.items()}
    origin = module._origin
    if isinstance(origin, ProgramSnapshot):
        came = origin.model.example_inputs
        return {"forward": (tuple(came[0]), dict(came[1]))} if came else {}
    calls: dict[str, Call] = {}
    for method in module._methods:
        maker = f"get_all_bundled_inputs_for_{method}"
        maker = maker if origin.has(maker) or method != "forward" else "get_all_bundled_inputs"
        if origin.has(maker) and isinstance(origin.look(maker), Method):
            rows = origin.run(maker)
            calls |= {method: (tuple(rows[0]), {})} if rows else {}
    return calls


def bundled_functions(origin: Snapshot) -> list[str]:
    """The methods that have bundled inputs."""
    return list(origin.run(FUNCTIONS)) if origin.has(FUNCTIONS) else []


def _compile_at_once(module: FrozenModule, given: Examples) -> None:
    calls = examples_of(module, given)
    if calls:
        with module._code.lock:
            module._code.prepare(calls)


def origin_of(mod: Any) -> Snapshot:
    """A frozen module as it is now, or a snapshot made of a model. TypeError for what is none."""
    return mod._code.now() if isinstance(mod, FrozenModule) else snapshot(mod)


def names_of(names: Any, what: str) -> list[str]:
    """The names in a list of strings, each once. TypeError for anything else."""
    if names is None:
        return []
    if isinstance(names, (str, bytes)):
        raise TypeError(f"{what}: got the {type(names).__name__} {names!r}, wanted a list of names: [{names!r}]")
    wrong = next((n for n in names if not isinstance(n, str)), None)
    if wrong is not None:
        raise TypeError(f"{what}: got {wrong!r}, a {type(wrong).__name__}, among the names, wanted strings")
    return list(dict.fromkeys(names))


def _refuse_training(origin: Snapshot) -> None:
    if origin.training():
        raise FreezeError(
            "Freezing is currently only implemented for modules in eval mode. Please call .eval() on your module before"
            " freezing."
        )


def _has_forward(origin: Snapshot) -> bool:
    from torch import nn

    if isinstance(origin, ModuleSnapshot):
        return type(origin.model).forward is not nn.Module.forward or "forward" in vars(origin.model)
    return origin.has("forward")
