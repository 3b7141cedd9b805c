"""msgspec's errors in words that a merchandiser reads: the field first, then what was expected."""

import re
from typing import Any

import msgspec
from msgspec import inspect

MESSAGE_MAX = 400
"""Characters of an error: what somebody sent comes back cut, not whole."""

_KINDS = {
    "int": "a whole number",
    "float": "a fraction",
    "str": "text in quotes",
    "bool": "true or false",
    "array": "a list",
    "object": "a table",
    "null": "nothing",
    "datetime": "a bare date",
}


def explain(error: msgspec.ValidationError, root: type[msgspec.Struct]) -> str:
    """`Expected `int`, got `str` - at `$.rounds[0].quota`` as `rounds[0].quota: expected a whole
    number, not text in quotes`. `root` is the type that was asked for."""
    what, _, where = str(error).rpartition(" - at `$")
    where = where.removeprefix(".").removesuffix("`") if what else ""
    text = _sentence(what or str(error), where, root)
    return "".join(c if c.isprintable() else "?" for c in text[:MESSAGE_MAX])


def _sentence(what: str, where: str, root: type[msgspec.Struct]) -> str:
    form = re.fullmatch(r"Object (missing required|contains unknown) field `(.*)`", what, re.DOTALL)
    if form:
        field = f"{where}.{form[2]}" if where else form[2]
        if form[1] == "missing required":
            return f"{field}: missing"
        known = ", ".join(_fields(_type_at(where, root))) or "none"
        return f"{field[:64]}: unknown field, expected one of: {known}"
    if " matching regex " in what:
        what = f"expected {_description(where, root)}"
    elif what.startswith("Invalid enum value "):
        known = " or ".join(f'"{value}"' for value in _values(_type_at(where, root)))
        what = f"expected {known}, not {what.removeprefix('Invalid enum value ')}"
    what = re.sub(r"`([a-z |]+)`", lambda m: _kinds(m[1]), what).replace(", got ", ", not ")
    return f"{where or 'the whole'}: {what[0].lower()}{what[1:]}"


def _kinds(names: str) -> str:
    return " or ".join(_KINDS.get(name, name) for name in names.split(" | "))


def _type_at(where: str, root: type[msgspec.Struct]) -> inspect.Type:
    """The type of the field at a path such as `rounds[0].quota`, metadata kept."""
    at = inspect.type_info(root)
    for step in re.findall(r"[^.\[\]]+", where):
        at = _plain(at)
        if isinstance(at, inspect.ListType):
            at = at.item_type
        elif isinstance(at, inspect.StructType):
            at = next(field.type for field in at.fields if field.encode_name == step)
    return at


def _plain(at: inspect.Type) -> inspect.Type:
    """Without metadata, and without the `or nothing` of an optional field."""
    if isinstance(at, inspect.Metadata):
        return _plain(at.type)
    if isinstance(at, inspect.UnionType):
        return _plain(next(t for t in at.types if not isinstance(t, inspect.NoneType)))
    return at


def _fields(at: inspect.Type) -> list[str]:
    at = _plain(at)
    return [f.encode_name for f in at.fields] if isinstance(at, inspect.StructType) else []


def _values(at: inspect.Type) -> tuple[Any, ...]:
    at = _plain(at)
    return tuple(at.values) if isinstance(at, inspect.LiteralType) else ()


def _description(where: str, root: type[msgspec.Struct]) -> str:
    """What the type's own Meta(description=…) says."""
    at = _type_at(where, root)
    if isinstance(at, inspect.UnionType):
        at = next(t for t in at.types if isinstance(t, inspect.Metadata))
    extra = at.extra_json_schema if isinstance(at, inspect.Metadata) else None
    return str((extra or {}).get("description", "another form"))
