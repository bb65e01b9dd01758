"""The sections of records and functions: fields or parameters, with types, defaults and meanings."""

import json
import re
import sys
import types
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from inspect import Parameter, signature
from typing import Any, Literal, get_origin

from tests.api_page.docstrings import PAGE, attributes, markdown, own_docstring, table

WIDEST = 100
"""Characters of a call on one line."""


def reached(roots: Iterable[type]) -> dict[str, type]:
    """These records and all that their fields can hold, by name, those that are needed first before those within them."""
    order = {root.__name__: root for root in roots}
    queue = list(order.values())
    while queue:
        record = queue.pop(0)
        for spec in fields(record):
            for name in re.findall(r"\w+", type_text(str(spec.type), record.__module__)):
                other = getattr(sys.modules[record.__module__], name, None)
                if isinstance(other, type) and is_dataclass(other) and name not in order:
                    order[name] = other
                    queue.append(other)
    return order


def type_text(annotation: str, module: str) -> str:
    """An annotation with the unions and literals behind the names of its module, and without the names of modules."""
    def behind(name: re.Match[str]) -> str:
        value = getattr(sys.modules[module], name[0], None)
        if not isinstance(value, types.UnionType) and get_origin(value) is not Literal:
            return name[0]
        return type_text(str(value).replace("'", '"'), module)

    plain = re.sub(r"\b(?:\w+\.)+(?=[A-Z])", "", annotation)
    return " | ".join(options(re.sub(r"\b[A-Z]\w+", behind, plain)))


def options(text: str) -> list[str]:
    """The members of a union."""
    depth, members = 0, [""]
    for sign in text:
        depth += (sign == "[") - (sign == "]")
        members = [*members, ""] if sign == "|" and not depth else [*members[:-1], members[-1] + sign]
    return list(dict.fromkeys(member.strip() for member in members))


def value_text(value: Any) -> str:
    """A default as a suite file would write it."""
    if isinstance(value, str):
        return json.dumps(str(value), ensure_ascii=False)
    if isinstance(value, tuple):
        return f"({', '.join(map(value_text, value))}{',' if len(value) == 1 else ''})"
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{value_text(key)}: {value_text(one)}' for key, one in value.items())}}}"
    if is_dataclass(value) and not isinstance(value, type):
        given = {spec.name: getattr(value, spec.name) for spec in fields(value) if getattr(value, spec.name) != default(spec)}
        return f"{type(value).__name__}({', '.join(f'{name}={value_text(one)}' for name, one in given.items())})"
    return repr(value)


def default(spec: Field[Any]) -> Any:
    """The default of a field, or MISSING."""
    return spec.default_factory() if spec.default_factory is not MISSING else spec.default


def record_section(name: str, record: type, sections: Iterable[str]) -> str:
    """A record: what it is, and its fields."""
    meanings = attributes(record.__module__, record.__name__)
    if lacking := [spec.name for spec in fields(record) if spec.name not in meanings]:
        raise ValueError(f"{record.__module__}: {name}.{lacking[0]} has no docstring below it, which {PAGE} shows")
    rows = [(f"`{spec.name}`", _type(type_text(str(spec.type), record.__module__), sections), _default(default(spec)),
             markdown(meanings[spec.name])) for spec in fields(record)]
    return f"### {name}\n\n{markdown(own_docstring(record))}\n\n{table(('field', 'type', 'default', 'meaning'), rows)}\n"


def _type(text: str, sections: Iterable[str]) -> str:
    return " or ".join(_member(member, sections) for member in options(text))


def _member(member: str, sections: Iterable[str]) -> str:
    named = [word for word in re.findall(r"\w+", member) if word in sections]
    return f"[`{member}`](#{named[-1].lower()})" if named else f"`{member}`"


def _default(value: Any) -> str:
    if value is MISSING:
        return "required"
    return "a function" if callable(value) else f"`{value_text(value)}`"


def function_section(name: str, function: Callable[..., Any]) -> str:
    """A function: its call with types and defaults, and what it does."""
    return f"### {name}\n\n```python\n{call(name, function)}\n```\n\n{markdown(own_docstring(function))}\n"


def call(name: str, function: Callable[..., Any]) -> str:
    """The call of a function with types and defaults, over several lines where it is long."""
    form = signature(function)
    words = list(_parameters(form.parameters.values(), function.__module__))
    result = f" -> {type_text(str(form.return_annotation), function.__module__)}"
    line = f"{name}({', '.join(words)}){result}"
    if len(line) <= WIDEST:
        return line
    return "\n".join([f"{name}(", *(f"    {word}," for word in words), f"){result}"])


def _parameters(parameters: Iterable[Parameter], module: str) -> Iterable[str]:
    before = None
    for one in parameters:
        if one.kind is Parameter.KEYWORD_ONLY and before not in (Parameter.KEYWORD_ONLY, Parameter.VAR_POSITIONAL):
            yield "*"
        before = one.kind
        stars = {Parameter.VAR_POSITIONAL: "*", Parameter.VAR_KEYWORD: "**"}.get(one.kind, "")
        given = "" if one.default is Parameter.empty else f" = {value_text(one.default)}"
        yield f"{stars}{one.name}: {type_text(str(one.annotation), module)}{given}"


