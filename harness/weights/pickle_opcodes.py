"""The instructions of a pickle, checked before anything carries them out: what is called, how large and how deep the result is,
and that every tensor lies within what the file stores. A pickle is a program: a few hundred bytes of it can ask for all memory.
"""

from __future__ import annotations

import io
import math
import pickletools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

PICKLE_LIMIT: Final = 16 * 2**20
"""Bytes of a pickle of names and shapes, which is all that it is: the numbers lie beside it."""
_MOST_INSTRUCTIONS: Final = 1_000_000  # four times what a Stable Diffusion XL with its optimizer takes
_MOST_VALUES: Final = 4_000_000
"""Of one value, when what stands in it twice is counted twice, and of the arguments of all calls together: what was built once
can be copied by a call of a few bytes."""
_MOST_VALUES_OF_A_KEY: Final = 100  # each use of a key hashes all of it
_CHARACTERS: Final = 32  # of a text, for one value more
_DEEPEST: Final = 64
MAGIC: Final = 0x1950A86A20F9469CFC6C
"""torch's older format starts with it: the only integer of more than 64 bits."""

_REBUILD: Final = frozenset(f"torch._utils.{name}" for name in (
    "_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_tensor_v3", "_rebuild_parameter", "_rebuild_parameter_with_state",
    "_rebuild_sparse_tensor"))
_REBUILD_TENSOR: Final = frozenset(name for name in _REBUILD if "_rebuild_tensor" in name)
_OF_A_SUBCLASS: Final = "torch._tensor._rebuild_from_type_v2"
_MAPPINGS: Final = frozenset({"collections.OrderedDict", "collections.Counter", "torch.nn.modules.container.ParameterDict"})
_CALLABLE: Final = _REBUILD | _MAPPINGS | {
    "builtins.set", "__builtin__.set", "builtins.frozenset", "__builtin__.frozenset", "builtins.complex", "__builtin__.complex",
    "torch.Size", "torch.device", "torch.serialization._get_layout", "_codecs.encode", _OF_A_SUBCLASS}
"""What may be called: nothing that takes more memory than its arguments."""
_MADE_OF_A_SIZE: Final = frozenset({"builtins.bytearray", "__builtin__.bytearray", "torch.Tensor", "torch.storage.UntypedStorage",
                                    "torch._utils._rebuild_qtensor", "torch._utils._rebuild_wrapper_subclass"})
"""What torch allows as well, though `bytearray(2**33)` is eleven bytes of a pickle."""
_STORAGE_BYTES: Final = {
    "DoubleStorage": 8, "FloatStorage": 4, "HalfStorage": 2, "BFloat16Storage": 2, "LongStorage": 8, "IntStorage": 4,
    "ShortStorage": 2, "CharStorage": 1, "ByteStorage": 1, "BoolStorage": 1, "UntypedStorage": 1, "ComplexFloatStorage": 8,
    "ComplexDoubleStorage": 16}
_CONTAINERS: Final = {"EMPTY_DICT": "dict", "EMPTY_LIST": "list", "EMPTY_TUPLE": "tuple", "EMPTY_SET": "set"}
_LITERALS: Final = frozenset({
    "NONE", "NEWTRUE", "NEWFALSE", "BININT", "BININT1", "BININT2", "LONG1", "LONG4", "BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE",
    "BINUNICODE8", "SHORT_BINSTRING", "BINSTRING", "SHORT_BINBYTES", "BINBYTES", "BINBYTES8"})
_TUPLES: Final = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_IGNORED: Final = frozenset({"PROTO", "FRAME"})


class PickleError(ValueError):
    """A pickle that is not read. The text is a reason without the file's name: "it refers to 'os.system', which ..."."""


class DamagedPickleError(PickleError):
    """A file whose archive or end is missing: another download of it may be whole."""


@dataclass(kw_only=True, slots=True, eq=False)
class Value:
    """What is known of a value before it exists: its type or what makes it, a literal, and the parts of a tuple or a list."""

    kind: str
    literal: Any = None
    parts: Sequence[Value] = ()
    depth: int = 1
    count: int = 1

    def hold(self, parts: Sequence[Value]) -> Value:
        """Itself, with the parts within it. PickleError when it becomes too deep or too large."""
        for part in parts:
            self.count += part.count
            if part.depth >= self.depth:
                self.depth = part.depth + 1
        if self.depth > _DEEPEST:
            raise PickleError(f"its values are nested more than {_DEEPEST} deep, or contain themselves")
        if self.count > _MOST_VALUES:
            raise PickleError(f"it unfolds into more than {_MOST_VALUES} values")
        if isinstance(self.parts, list):
            self.parts.extend(parts)
        return self


class Checker:
    """Checks one pickle. `stored` are the bytes of each storage by its key, None where the pickle alone says how many there are;
    `declared` those that the pickle counts on."""

    def __init__(self, stored: Mapping[str, int] | None) -> None:
        self.stored = stored
        self.declared: dict[str, int] = {}
        self._stack: list[Value] = []
        self._marks: list[int] = []
        self._memo: dict[int, Value] = {}
        self._instructions = 0
        self._arguments = 0

    def check(self, stream: io.BytesIO) -> Value:
        """What is known of the pickle's value; leaves the stream behind the pickle. PickleError says what is wrong."""
        try:
            for opcode, argument, _ in pickletools.genops(stream):
                if opcode.name == "STOP":
                    return self._take(1)[0]
                self._step(opcode.name, argument)
        except (ValueError, IndexError, KeyError, OverflowError, RecursionError) as error:
            if isinstance(error, PickleError):
                raise
            raise PickleError(f"it is damaged: {' '.join(str(error).split())[:100]!a}") from None
        raise PickleError("it has no end")

    def _step(self, name: str, argument: Any) -> None:  # noqa: PLR0912  one branch for each kind of instruction
        self._instructions += 1
        if self._instructions > _MOST_INSTRUCTIONS:
            raise PickleError(f"it has more than {_MOST_INSTRUCTIONS} instructions")
        stack = self._stack
        if name in _LITERALS:
            stack.append(_literal(argument))
        elif name in ("BINPUT", "LONG_BINPUT", "MEMOIZE"):
            self._remember(len(self._memo) if name == "MEMOIZE" else argument)
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(self._memo[argument])
        elif name == "MARK":
            self._marks.append(len(stack))
        elif name in _CONTAINERS:
            kind = _CONTAINERS[name]
            stack.append(Value(kind=kind, parts=[] if kind == "list" else ()))
        elif name == "TUPLE" or name in _TUPLES:
            parts = self._take_to_mark() if name == "TUPLE" else self._take(_TUPLES[name])
            stack.append(Value(kind="tuple", parts=tuple(parts)).hold(parts))
        elif name == "FROZENSET":
            stack.append(Value(kind="frozenset").hold(_keys(self._take_to_mark())))
        elif name in ("APPEND", "APPENDS"):
            parts = self._take(1) if name == "APPEND" else self._take_to_mark()
            self._top().hold(parts)
        elif name in ("SETITEM", "SETITEMS", "ADDITEMS"):
            parts = self._take(2) if name == "SETITEM" else self._take_to_mark()
            _keys(parts if name == "ADDITEMS" else parts[::2])
            self._top().hold(parts)
        elif name == "GLOBAL":
            stack.append(Value(kind="name", literal=argument.replace(" ", ".", 1)))
        elif name == "STACK_GLOBAL":
            stack.append(Value(kind="name", literal=".".join(str(part.literal) for part in self._take(2))))
        elif name in ("REDUCE", "NEWOBJ"):
            called, arguments = self._take(2)
            stack.append(self._called(called, arguments, _MAPPINGS if name == "NEWOBJ" else _CALLABLE))
        elif name == "BUILD":
            state = self._take(1)
            if self._top().kind not in _MAPPINGS:
                raise PickleError(f"it changes a {self._top().kind} after it was made")
            self._top().hold(state)
        elif name == "BINPERSID":
            stack.append(self._storage(self._take(1)[0]))
        elif name not in _IGNORED:
            raise PickleError(f"it has the instruction {name}, which torch does not write")

    def _called(self, called: Value, arguments: Value, allowed: frozenset[str]) -> Value:
        name = _name(called, allowed)
        given = arguments.parts
        if arguments.kind != "tuple":
            raise PickleError(f"it calls {name} with a {arguments.kind}")
        if name == "_codecs.encode" and [part.literal for part in given[1:]] != ["latin1"]:
            raise PickleError("it encodes a text in another way than latin1, which can make it longer without end")
        if name == _OF_A_SUBCLASS:
            name, given = _name(given[0], _REBUILD), given[2].parts
        if name in _REBUILD_TENSOR:
            _refuse_outside(given)
        self._arguments += arguments.count
        if self._arguments > _MOST_VALUES:
            raise PickleError(f"its calls have more than {_MOST_VALUES} arguments")
        return Value(kind=name).hold([arguments])

    def _storage(self, identity: Value) -> Value:
        """A storage by its identity ("storage", class, key, place, count): as many bytes as the file holds under that key."""
        parts = identity.parts
        if identity.kind != "tuple" or len(parts) < 5 or parts[0].literal not in ("storage", b"storage"):
            raise PickleError("it refers to something that is not a storage")
        name, key, count = str(parts[1].literal), str(parts[2].literal), parts[4].literal
        size = _STORAGE_BYTES.get(name.rpartition(".")[2], 0)
        if not name.startswith("torch.") or not size or type(count) is not int or count < 0:
            raise PickleError(f"it has a storage of {str(count)[:40]!a} values of {name[:60]!a}")
        if self.stored is not None and self.stored.get(key) != count * size:
            raise PickleError(f"its storage {key[:40]!a} is to have {count * size} bytes, and the file holds "
                              f"{self.stored.get(key, 0)} for it")
        if self.declared.setdefault(key, count * size) != count * size:
            raise PickleError(f"its storage {key[:40]!a} has two sizes")
        view = [part.literal for part in parts[5].parts] if len(parts) > 5 else []  # (key, offset, count) before torch 0.4
        if view and (len(view) != 3 or any(type(n) is not int or n < 0 for n in view[1:]) or view[1] + view[2] > count):
            raise PickleError(f"its storage {key[:40]!a} has a view that reaches beyond it")
        return Value(kind="storage", literal=view[2] if view else count)

    def _remember(self, place: int) -> None:
        # A reader in C makes room for all places up to this one.
        if place > self._instructions:
            raise PickleError(f"it remembers a value in place {place} after {self._instructions} instructions")
        self._memo[place] = self._top()

    def _top(self) -> Value:
        self._refuse_fewer(1)
        return self._stack[-1]

    def _take(self, count: int) -> list[Value]:
        self._refuse_fewer(count)
        taken = self._stack[-count:]
        del self._stack[-count:]
        return taken

    def _take_to_mark(self) -> list[Value]:
        place = self._marks.pop()
        taken = self._stack[place:]
        del self._stack[place:]
        return taken

    def _refuse_fewer(self, count: int) -> None:
        if len(self._stack) - (self._marks[-1] if self._marks else 0) < count:
            raise PickleError("it takes more values than there are")


def _literal(value: Any) -> Value:
    if isinstance(value, int) and not -(1 << 63) <= value < 1 << 64 and value != MAGIC:
        raise PickleError("it has an integer of more than 64 bits")
    length = len(value) if isinstance(value, str | bytes) else 0
    return Value(kind=type(value).__name__, literal=value, count=1 + length // _CHARACTERS)


def _name(called: Value, allowed: frozenset[str]) -> str:
    """The name of what is called; PickleError when it is not among those allowed."""
    name = str(called.literal) if called.kind == "name" else f"a {called.kind}"
    if called.kind != "name" or name not in allowed:
        danger = "fill the memory" if name in _MADE_OF_A_SIZE else "run code"
        shown = name.removeprefix("builtins.").removeprefix("__builtin__.")
        raise PickleError(f"it refers to {shown[:100]!a}, which could {danger}")
    return name


def _keys(values: Sequence[Value]) -> Sequence[Value]:
    for value in values:
        if value.count > _MOST_VALUES_OF_A_KEY and not isinstance(value.literal, str | bytes):
            raise PickleError(f"it has a key of more than {_MOST_VALUES_OF_A_KEY} values")
    return values


def _refuse_outside(given: Sequence[Value]) -> None:
    """PickleError unless a tensor (storage, offset, size, strides, ...) lies within its storage."""
    if len(given) < 4 or given[0].kind != "storage":
        raise PickleError("it has a tensor without a storage")
    offset = given[1].literal
    shape, strides = ([part.literal for part in value.parts] for value in given[2:4])
    numbers = (offset, *shape, *strides)
    if any(type(number) is not int or number < 0 for number in numbers) or len(shape) != len(strides):
        raise PickleError("it has a tensor whose shape makes no sense")
    reach = offset + sum((n - 1) * step for n, step in zip(shape, strides, strict=True)) + 1 if math.prod(shape) else 0
    if reach > given[0].literal:
        raise PickleError(f"it has a tensor of shape {str(shape)[:60]}, which reaches beyond what the file holds for it")
