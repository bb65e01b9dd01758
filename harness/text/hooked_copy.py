"""Twins of a module: copies that share its parameters but have separate hooks on some submodules.
Embedding inserts the vectors of words and reads inner states through a twin. The module itself is never changed.
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

    Only the modules on the way to these paths are new objects; their tensors are shared. So threads can use twins of one
    module at the same time, each with its own hooks, and no hook has to be removed afterwards.
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
