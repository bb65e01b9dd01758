"""Twins of a module: the same parameters, but hooks of their own at some of its submodules.
Embedding puts the vectors of words in, and takes inner states out, through a twin; the module itself is never touched.
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

Hook = Callable[..., Any]


def twin(module: Any, before: Mapping[str, Hook], after: Mapping[str, Hook]) -> Any:
    """A module that shares every tensor with `module` and calls hooks at the given paths: `before` as forward pre-hooks,
    `after` as forward hooks ("" is the module itself).

    Only the modules on the way to these paths are new objects, and not their tensors. So threads can use twins of one module
    at the same time, each with hooks of its own, and nothing has to be taken off again.
    """
    copied = copy.copy(module)
    copied._modules = dict(module._modules)
    for name in {path.partition(".")[0] for path in (*before, *after)} - {""}:
        copied._modules[name] = twin(module._modules[name], _below(name, before), _below(name, after))
    if "" in before:
        copied._forward_pre_hooks = OrderedDict(module._forward_pre_hooks)
        copied.register_forward_pre_hook(before[""])
    if "" in after:
        copied._forward_hooks = OrderedDict(module._forward_hooks)
        copied.register_forward_hook(after[""])
    return copied


def _below(name: str, hooks: Mapping[str, Hook]) -> dict[str, Hook]:
    return {path.partition(".")[2]: hook for path, hook in hooks.items() if path.partition(".")[0] == name}
