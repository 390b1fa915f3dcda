"""The code in an archive: its classes and functions, found by `ast`, by qualified name."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from neve.capture.torchscript.lines import Lines
from neve.errors import CaptureError

MAX_SOURCE = 64 * 2**20


@dataclass
class Function:
    """A function or method; file and line numbers are those of the archive's code."""

    name: str
    node: ast.FunctionDef
    file: str

    @property
    def parameters(self) -> list[ast.arg]:
        return self.node.args.args


@dataclass
class Class:
    """A TorchScript class: kind is its base ("Module", "NamedTuple", "Enum", "" or "Interface").

    types maps attributes to their annotations, constants to those that are Final with a value, and the members of an
    enumeration to theirs; lists holds the lists of names in it (__parameters__, __forward_hooks__).
    """

    name: str
    kind: str
    methods: dict[str, Function] = field(default_factory=dict)
    types: dict[str, ast.expr] = field(default_factory=dict)
    constants: dict[str, ast.expr] = field(default_factory=dict)
    lists: dict[str, list[str]] = field(default_factory=dict)

    def hooks(self, kind: str) -> list[Function]:
        """The forward hooks of a kind ("pre_hooks", "hooks") in their order, which run when Python calls the module.

        Where code of the archive calls it, torch's compiler has written the calls of hooks out.
        """
        return [self.methods[name] for name in self.lists.get(f"__forward_{kind}__", ()) if name in self.methods]


class Sources:
    """All classes and functions of an archive. A file is parsed when something in it is first asked for."""

    def __init__(self, code: Mapping[str, str], debug: Mapping[str, bytes] | None = None) -> None:
        self._text = {file.removesuffix(".py").replace("/", "."): (file, text) for file, text in code.items()}
        self._debug = debug or {}
        self._parsed: dict[str, dict[str, Class | Function]] = {}
        self._lines: dict[str, Lines] = {}
        self._places: dict[tuple[str, int, int], tuple[str, int, str]] = {}

    def find(self, qualified: str) -> Class | Function | None:
        """The class or function of that name, "__torch__.torch.nn.modules.linear.Linear"; None if there is none."""
        module, _, name = qualified.rpartition(".")
        return self._module(module).get(name) if module in self._text else None

    def cls(self, qualified: str) -> Class:
        """The class of that name. CaptureError if the archive has none."""
        found = self.find(qualified)
        if not isinstance(found, Class):
            raise CaptureError(f"the archive has no code for the class {qualified}")
        return found

    def place(self, file: str, node: ast.stmt | ast.expr) -> tuple[str, int, str]:
        """The file, line and text that the user wrote for a place in the code; else file and line in the archive."""
        key = (file, node.lineno, node.col_offset)
        if key not in self._places:
            if file not in self._lines:
                self._lines[file] = Lines(
                    self._text[file.removesuffix(".py").replace("/", ".")][1], self._debug.get(file)
                )
            self._places[key] = self._lines[file].find(*key[1:]) or (f"code/{file}", node.lineno, "")
        return self._places[key]

    def _module(self, module: str) -> dict[str, Class | Function]:
        if module not in self._parsed:
            self._parsed[module] = self._parse(module)
        return self._parsed[module]

    def _parse(self, module: str) -> dict[str, Class | Function]:
        file, text = self._text[module]
        if len(text) > MAX_SOURCE:
            raise CaptureError(f"code/{file} is refused: it has more than {MAX_SOURCE} characters")
        try:
            tree = ast.parse(text)
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            raise CaptureError(f"code/{file} cannot be parsed: {type(error).__name__}: {str(error)[:200]}") from error
        found: dict[str, Class | Function] = {}
        for node in tree.body:
            if isinstance(node, ast.ClassDef):
                found[node.name] = _class(f"{module}.{node.name}", node, file)
            elif isinstance(node, ast.FunctionDef):
                found[node.name] = Function(f"{module}.{node.name}", node, file)
            elif not isinstance(node, (ast.Import, ast.ImportFrom, ast.Expr, ast.Assign)):
                raise CaptureError(f"code/{file}:{node.lineno}: a {type(node).__name__} is not TorchScript")
        return found


def _class(name: str, node: ast.ClassDef, file: str) -> Class:
    base = node.bases[0] if node.bases else None
    made = Class(name, base.id if isinstance(base, ast.Name) else "")
    for entry in node.body:
        if isinstance(entry, ast.FunctionDef):
            made.methods[entry.name] = Function(f"{name}.{entry.name}", entry, file)
        elif isinstance(entry, ast.AnnAssign) and isinstance(entry.target, ast.Name):
            made.types[entry.target.id] = entry.annotation
            if entry.value is not None:
                made.constants[entry.target.id] = entry.value
        elif isinstance(entry, ast.Assign) and isinstance(entry.targets[0], ast.Subscript):
            key: Any = entry.targets[0].slice  # __annotations__["0"] = type
            if isinstance(key, ast.Constant) and isinstance(key.value, str):
                made.types[key.value] = entry.value
        elif isinstance(entry, ast.Assign) and isinstance(entry.targets[0], ast.Name) and made.kind == "Enum":
            made.constants[entry.targets[0].id] = entry.value
        elif isinstance(entry, ast.Assign) and isinstance(entry.targets[0], ast.Name):
            names = [e.value for e in getattr(entry.value, "elts", ()) if isinstance(e, ast.Constant)]
            made.lists[entry.targets[0].id] = [n for n in names if isinstance(n, str)]
    return made
