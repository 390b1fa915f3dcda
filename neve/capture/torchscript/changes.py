"""What a method left changed in the model: attributes and entries that become state, tensors that it wrote."""

from __future__ import annotations

from typing import Any

import torch

from neve.capture.torchscript.control import leaf, same, same_shape
from neve.capture.torchscript.instance import Instance
from neve.capture.torchscript.machine import Machine
from neve.capture.torchscript.model import Place
from neve.capture.torchscript.pickles import Obj
from neve.capture.torchscript.values import KINDS, Dim, Num, Refusal, Var, content, describe


class Changes:
    """Compares an instance after the call with what it was before. updates: (path of a state, its new content)."""

    def __init__(self, m: Machine, instance: Instance) -> None:
        self.m, self.instance, self.model, self.settled = m, instance, instance.model, instance.settled
        self.updates: list[tuple[str, Var]] = []
        self._changes()
        self._writes()

    def _changes(self) -> None:
        """Find attributes and entries that are not what they were: they are state."""
        holders: dict[Var, list[tuple[str, bool]]] = {}
        for i, (made, owner) in self.instance.made.items():
            self.m.heap.check(made)
            old, new = self.instance.before[i], content(made)
            if isinstance(old, list):
                old, new = dict(enumerate(old)), dict(enumerate(new))
            where = self.model.paths[id(owner)] or "self"
            if old.keys() != new.keys():
                raise Refusal(
                    f"{where}: {describe(made)} has {len(old)} entries before the call and {len(new)} after it: state "
                    "must keep its size from call to call"
                )
            for key in old:
                path = self.model.path((id(owner), key))
                if isinstance(new[key], Var):
                    for root in self.m.tape.may_be(new[key]):
                        holders.setdefault(root, []).append((path, not same(old[key], new[key])))
                self._change(owner, key, old[key], new[key], path)
        for found in holders.values():
            if len(found) > 1 and any(assigned for _, assigned in found):
                raise Refusal(
                    f"the attributes {' and '.join(path for path, _ in found)} are one tensor after the call, so a "
                    "write to one would change the other in later calls: copy what is assigned (clone)"
                )

    def _change(self, owner: Any, key: Any, old: Any, new: Any, path: str) -> None:
        place = (id(owner), key)
        if place in self.instance.states:
            self._update(place, old, new, path)
        elif not (same(old, new) or self._same_container(old, new)):
            self._new_state(place, owner, key, old, new, path)

    def _same_container(self, old: Any, new: Any) -> bool:
        if isinstance(old, tuple) and isinstance(new, tuple) and len(old) == len(new):
            return all(same(a, b) or self._same_container(a, b) for a, b in zip(old, new, strict=True))
        return False

    def _new_state(self, place: Place, owner: Any, key: Any, old: Any, new: Any, path: str) -> None:
        original = owner.attrs[key] if isinstance(owner, Obj) else owner[key]
        if isinstance(original, torch.Tensor) and isinstance(new, Var):
            self._require_type(old, new, path)
            storage = original.untyped_storage()._cdata
            if self.model.holders[storage] > 1:
                original = original.clone()
                self.settled.apart |= {storage, original.untyped_storage()._cdata}
            self.settled.state[place], self.settled.kinds[place] = original, torch.Tensor
        elif type(original) in KINDS and _kind(new) is type(original):
            kind = type(original)
            self.settled.state[place] = torch.tensor(original, dtype=KINDS[kind])
            self.settled.kinds[place] = kind
        else:
            raise Refusal(
                f"the attribute {path} is {describe(old)} before the call and {describe(new)} after it: state must "
                "keep its type, size and structure from call to call; give it its final form when the model is made"
            )

    def _require_type(self, old: Any, new: Var, path: str) -> None:
        if new.meta.dtype is not old.meta.dtype or not same_shape(new.meta.shape, old.meta.shape):
            raise Refusal(
                f"the attribute {path} is {describe(old)} before the call and {describe(new)} after it: state must"
                " keep its shape and type from call to call; give it its final form when the model is made"
            )

    def _update(self, place: Place, old: Any, new: Any, path: str) -> None:
        state = self.instance.states[place]
        if same(old, new):
            return
        if isinstance(state, Var):
            if not isinstance(new, Var):
                raise Refusal(f"the attribute {path} is a tensor before the call and {describe(new)} after it")
            self._require_type(state, new, path)
            new = self.m.tape.use(new)
            if new.root is state.root and new is not state:
                raise Refusal(f"the attribute {path} becomes a view of itself: copy it (clone)")
            if new.loose or str(new.meta.stride()) != str(state.meta.stride()):
                self.settled.loose.add(place)
            self.updates.append((path, new))
            return
        if _kind(new) is not state.kind:
            raise Refusal(f"the attribute {path} is {describe(state)} before the call and {describe(new)} after it")
        self.updates.append((path, leaf(self.m, new, (new, state))))

    def _writes(self) -> None:
        """Note tensors of the model that are written in place, with all that share their memory."""
        by_var = {v: k for k, v in self.instance.by_key.items()}
        for var, path in self.instance.tensors.items():
            key = by_var[var]
            storage = (key[1] if key[0] in ("state", "whole") else key)[0]
            if var in self.m.tape.versions and storage in self.settled.apart:
                raise Refusal(
                    f"{path} is written in place, and is the memory of several attributes until one of them is "
                    "assigned: copy it when the model is made (clone), or write it in place everywhere (copy_)"
                )
            if key[0] == "whole":
                continue
            real = key[1] if key[0] == "state" else key
            wrote = var.root.mutated and real not in self.settled.written and key[0] != "state"
            if wrote or key[0] == "state":
                if key[0] != "state":
                    self.settled.written.add(real)
                if len(self.model.keys_by_storage.get(real[0], ())) > 1:
                    self.settled.shared.add(real[0])
            self.m.tape.use(var.root)


def _kind(value: Any) -> type:
    return value.kind if isinstance(value, (Num, Dim)) else type(value)
