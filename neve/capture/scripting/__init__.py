"""nn.Modules that torch.export cannot trace, compiled from their source by torch.jit while it exists.

`route` is the way through; `observe` runs the model in Python, for types and for the results that the compilation has
to give; `rewrite` says in TorchScript what Python says in a way that torch.jit does not take; `explain` turns what is
left into what is wrong, where, and the fix.
"""
