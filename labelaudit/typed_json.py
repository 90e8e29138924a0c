"""Plain JSON values as typed dataclasses, checked, and back."""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from typing import Any, Union, get_args, get_origin, get_type_hints

_KINDS = {
    dict: "an object",
    list: "a list",
    str: "text",
    bool: "true or false",
    int: "a whole number",
}


class MismatchError(ValueError):
    """A value does not have the type that is declared for it; says where."""


def to_plain(value: object) -> Any:
    """Return dataclasses, tuples and what is in them as dicts and lists, as JSON reads them back."""
    return json.loads(json.dumps(value, default=dataclasses.asdict))


def from_plain(kind: Any, value: Any, where: str = "") -> Any:
    """Return a plain value as a type, with all that is in it.

    Parameters
    ----------
    kind
        A dataclass, a `TypedDict`, ``list``, ``tuple``, ``dict`` or a union of such types, or a type
        of JSON values. Keys that a dataclass does not have are ignored.
    value
        What `json.loads` gave.
    where
        The key at which the value stands, for messages.

    Raises
    ------
    MismatchError
        If a key is missing or a value has another type.
    """
    origin, inner = get_origin(kind), get_args(kind)
    if kind is Any:
        return value
    if origin in (types.UnionType, Union):
        if value is None and type(None) in inner:
            return None
        return from_plain(next(one for one in inner if one is not type(None)), value, where)
    if dataclasses.is_dataclass(kind):
        hints = get_type_hints(kind)
        required = [one.name for one in dataclasses.fields(kind) if not _has_default(one)]
        build: Any = kind
        return build(**_read_keys(hints, required, value, where))
    if typing.is_typeddict(kind):
        hints = get_type_hints(kind)
        return _read_keys(hints, list(hints), value, where)
    if origin is dict:
        items = _checked(dict, value, where).items()
        return {key: from_plain(inner[1], one, f"{where}.{key}") for key, one in items}
    if origin in (list, tuple):
        parts = _checked(list, value, where)
        fixed = origin is tuple and inner[-1] is not Ellipsis
        if fixed and len(parts) != len(inner):
            raise MismatchError(f"{where} has {len(parts)} values, not {len(inner)}")
        kinds = inner if fixed else inner[:1] * len(parts)
        return origin(
            from_plain(one, part, f"{where}[{row}]")
            for row, (one, part) in enumerate(zip(kinds, parts, strict=True))
        )
    if kind is float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise MismatchError(f"{where} is not a number")
        return float(value)
    if kind is int and isinstance(value, bool):
        raise MismatchError(f"{where} is not a whole number")
    return _checked(kind, value, where)


def _has_default(one: dataclasses.Field[Any]) -> bool:
    missing = dataclasses.MISSING
    return one.default is not missing or one.default_factory is not missing


def _read_keys(
    hints: dict[str, Any], required: list[str], value: Any, where: str
) -> dict[str, Any]:
    there = _checked(dict, value, where or "it")
    before = f"{where}." if where else ""
    for name in required:
        if name not in there:
            raise MismatchError(f"{before}{name} is missing")
    return {
        name: from_plain(kind, there[name], before + name)
        for name, kind in hints.items()
        if name in there
    }


def _checked(kind: Any, value: Any, where: str) -> Any:
    if not isinstance(value, kind):
        raise MismatchError(f"{where} is not {_KINDS[kind]}")
    return value
