"""torch.jit's messages and what they mean: a pattern → what is wrong, and the fix."""

from __future__ import annotations

from neve.capture.torchscript.machine import TOLIST

MEANINGS: tuple[tuple[str, str], ...] = (
    (
        r"Could not cast attribute '(?P<name>\w+)' to type __torch__\.(?:\w+\.)*(?P<type>\w+)",
        (
            "self.{name} is an object, a {type}: keep the numbers and tensors of it as attributes of the module in its "
            "place"
        ),
    ),
    (
        (
            r"Module '(?P<module>\w+)' has no attribute '(?P<name>\w+)' \(This attribute exists.*?type: "
            r"'(?P<type>[^']+)'"
        ),
        (
            "self.{name} is a {type}, which torch.jit has no type for: store the tensors (register_buffer), modules "
            "(nn.ModuleList, nn.ModuleDict) or numbers in it as attributes of the module"
        ),
    ),
    (
        r"Module '(?P<module>\w+)' has no attribute '(?P<name>\w+)' \(This function exists",
        "self.{name} is a function that torch.jit cannot compile: make it a method of the module, with def",
    ),
    (
        r"Module '(?P<module>\w+)' has no attribute '(?P<name>\w+)'",
        (
            "the {module} has no attribute {name} that torch.jit sees (a traced module keeps no Python attributes, a "
            "property or class attribute may be none): set it in __init__ of the module that reads it"
        ),
    ),
    (
        r"Tried to set nonexistent attribute: (?P<name>\w+)",
        (
            "self.{name} is written but has no type: set it in __init__ to a value of its type, or declare it in the "
            "class ({name}: List[int])"
        ),
    ),
    (
        r"Wrong type for attribute assignment. Expected (?P<want>.+?) but got (?P<got>.+?):\s",
        "an attribute that holds {want} gets a {got}: set it in __init__ to a value of the type that it has later",
    ),
    (
        r"all inputs of range must be ints, found (?P<got>.+?) in argument",
        "range() gets a {got}: declare the argument as int (n: int), or take int(n)",
    ),
    (
        r"python value of type '(?P<type>[^']+)' cannot be used as a",
        (
            "a Python value from outside is used, a {type}: make it an attribute of the module (a tensor: "
            "register_buffer), or pass it as an argument"
        ),
    ),
    (
        r"Python type cannot be used as a value|object has no attribute or method 'forward'",
        (
            "a method of the base class is called (super()): give the base class's code a method of its own name, "
            "and call that"
        ),
    ),
    (
        r"'(?P<type>[^']+?)(?: \(inferred\))?' object has no attribute or method '(?P<name>\w+)'",
        (
            "a {type} has no {name} that torch.jit knows: use operators of torch, and declare the argument's type if "
            "it is no tensor"
        ),
    ),
    (
        r"cannot create weak reference to 'numpy\.|numpy",
        "numpy is called: use the function of torch, or of math for a number",
    ),
    (
        r"is called recursively",
        "a function calls itself: write it as a loop",
    ),
    (
        r"Expected integer literal for index",
        (
            "a module is taken from a ModuleList by an index that is no literal: go over the list with enumerate, "
            "and use the one whose number it is"
        ),
    ),
    (
        r"getattr's second argument must be a string literal",
        ("getattr takes a name that is computed: keep the modules in an nn.ModuleList or nn.ModuleDict and go over it"),
    ),
    (
        r"(?P<name>\w+) is set to type (?P<a>.+?) in the true branch and type (?P<b>.+?) in the false",
        "{name} is a {a} on one path and a {b} on the other: give it the same type on both",
    ),
    (
        r"(?P<name>\w+) is not defined in the (?P<side>\w+) branch",
        "{name} has no value on the {side} path: set it before the branch",
    ),
    (
        (
            r"Variable '(?P<name>\w+)' previously had type (?P<a>.+?) but is now being assigned to a value of type "
            r"(?P<b>.+?)\s"
        ),
        "{name} was a {a} and becomes a {b}: use another name",
    ),
    (
        (
            r"Previous return statement returned a value of type (?P<a>.+?) but this return statement returns a value "
            r"of type (?P<b>.+?)(?: \(inferred\))?:"
        ),
        "one return gives a {a}, another a {b}: return the same type everywhere",
    ),
    (
        (
            r"Could not match type (?P<b>.+?) to t in argument '\w+': Type variable 't' previously matched to type "
            r"(?P<a>.+?) is"
        ),
        (
            "a {b} goes into a container of {a}: declare the container where it is made (x: List[int] = []), as "
            "empty ones are of tensors"
        ),
    ),
    (
        r"Cannot create dict for key type '(?P<key>.+?)'",
        "a dict has keys of the type {key}: use int or str",
    ),
    (
        r"but instead found type '(?P<type>Union\[.+?\])'",
        (
            "a value of a container of several types is used, {type}: keep values of different types in different "
            "variables, or in a tuple"
        ),
    ),
    (
        (
            r"Expected a value of type '(?P<want>[^']+?)(?: \(inferred\))?' for argument '(?P<name>\w+)' but instead "
            r"found type '(?P<got>[^']+)'.*?Inferred '(?P=name)' to be of type 'Tensor'"
        ),
        (
            "the argument {name} has no declared type and so counts as a tensor, but gets a {got}: declare it "
            "({name}: {got})"
        ),
    ),
    (
        r"Expected a value of type '(?P<want>[^']+)' for argument '(?P<name>\w+)' but instead found type 'Optional",
        (
            "a value that may be None is used: test a local variable (y = self.x; if y is not None: …), as torch.jit "
            "believes no test of an attribute"
        ),
    ),
    (
        (
            r"Expected a value of type '(?P<want>[^']+)' for argument '(?P<name>\w+)' but instead found type "
            r"'(?P<got>[^']+)'"
        ),
        (
            "a {got} is given where a {want} is wanted (argument {name}): declare arguments that are no tensors (n: "
            "int), and convert (int(), float())"
        ),
    ),
    (
        r"Expected type hint for result of tolist",
        TOLIST,
    ),
    (
        r"Python builtin <.*?(?P<name>\w+)(?: of \w+ object at \w+)?> is currently not supported",
        "{name}() of Python is called: use a function of torch, or call it outside and pass the value",
    ),
    (
        r"Unknown builtin op: aten::(?P<name>\w+)",
        "torch.{name} is not known to torch.jit: use the operator it stands for (torch.tensor for torch.Tensor)",
    ),
    (
        r"Could not export Python function call '(?P<name>[^']+)'",
        "{name} is marked to be ignored by torch.jit, but is called: take the mark away, or do not call it",
    ),
    (
        r"formatting in JoinedStr|conversion in JoinedStr",
        (
            "a string is formatted (f'{{x:.2f}}', f'{{x!r}}'): compare the numbers themselves, or only format in what "
            "is printed or raised"
        ),
    ),
    (
        r"undefined value (?P<name>\w+)",
        "{name} is not defined for torch.jit: define it in the function, or make it an attribute of the module",
    ),
    (
        r"(?:Pre-h|H)ook '(?P<name>\w+)' on module",
        (
            "the forward hook {name} has not the types that torch.jit wants: declare them (def {name}(self, "
            "input: Tuple[Tensor], output: Tensor) -> Tensor), or do in forward what it does"
        ),
    ),
    (
        r"'(?P<name>\w+)' object has no attribute '__name__'",
        (
            "a forward hook is an object ({name}), not a function: make it a function with def, or take it away "
            "(remove_weight_norm, remove_spectral_norm and prune.remove of torch.nn.utils keep its effect)"
        ),
    ),
    (
        r"Can't get source for|could not get source code",
        ("the source of a function is not there (it was typed into an interpreter, or made by exec): put it in a file"),
    ),
    (
        r"Expected a single top-level function",
        "a lambda is a hook or an attribute: make it a function, with def",
    ),
    (
        r"Unknown type name '(?P<name>[^']+)'",
        (
            "the type {name} in an annotation is none that torch.jit knows: declare Tensor, int, float, bool, str, "
            "List[…], Dict[…], Tuple[…] or Optional[…]"
        ),
    ),
)
