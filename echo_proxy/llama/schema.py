"""Which forms of JSON does a schema describe, and are they small enough to follow? Schemas come from callers."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

MOST_CHARACTERS = 1 << 15
_MOST_NODES = 5000
_DEEPEST = 64
_MOST_TARGETS = 200
"""Parts that are referred to by `$ref`."""
_MOST_FIELDS = 1000
"""Properties in all objects together."""
_MOST_VALUES = 1000
"""Of all enums together, as OpenAI has it."""
_MOST_REPEATED = 2000
"""Of one thing; llama.cpp refuses more."""
_SHOWN = 60
"""Characters of a text, or bits of a number, that a message repeats."""
_MOST_REPEATED_IN_ALL = 20_000
"""Each is a rule in llama.cpp; 20,000 of them take it 15 ms."""


class SchemaRefused(ValueError):
    """A schema that cannot be followed, or would take too long to follow."""


# ------------------------------------------------------------------ what a schema can describe


@dataclass(frozen=True, slots=True)
class Basic:
    """Any value of a type."""

    name: str
    """`string`, `integer`, `number`, `boolean`, `null`, `object`, `array`, or `value` for any of them."""


@dataclass(frozen=True, slots=True)
class Characters:
    """A string of a certain length."""

    least: int
    most: int | None


@dataclass(frozen=True, slots=True)
class Pattern:
    """A string that a regular expression allows."""

    pattern: str


@dataclass(frozen=True, slots=True)
class Constants:
    """One of these texts of JSON."""

    texts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Fields:
    """An object: these fields in this order, then the optional ones, then any others."""

    required: tuple[tuple[str, "Form"], ...]
    optional: tuple[tuple[str, "Form"], ...]
    extra: "Form | None"
    """Of fields with other names; None = there are none."""


@dataclass(frozen=True, slots=True)
class Items:
    """An array of values of one form."""

    item: "Form"
    least: int
    most: int | None


@dataclass(frozen=True, slots=True)
class Places:
    """An array with a form for each place."""

    items: tuple["Form", ...]


@dataclass(frozen=True, slots=True)
class Union:
    """One of several forms."""

    choices: tuple["Form", ...]


@dataclass(frozen=True, slots=True)
class Reference:
    """The form at a place in the schema."""

    pointer: str


Form = Basic | Characters | Pattern | Constants | Fields | Items | Places | Union | Reference


@dataclass(frozen=True, slots=True)
class Schema:
    """A schema in terms of forms."""

    root: Form
    targets: Mapping[str, Form]
    """By pointer, what references mean."""


def parts_of(form: Form) -> Iterator[Form]:
    """The forms directly in it; of a reference none."""
    if isinstance(form, Fields):
        yield from (value for _, value in (*form.required, *form.optional))
        if form.extra is not None:
            yield form.extra
    elif isinstance(form, Items):
        yield form.item
    elif isinstance(form, Places):
        yield from form.items
    elif isinstance(form, Union):
        yield from form.choices


def as_json(value: object) -> str:
    """As a model writes it: characters as themselves, but for half ones."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    return "".join(f"\\u{ord(one):04x}" if "\ud800" <= one <= "\udfff" or one == "\x7f" else one for one in text)


# ------------------------------------------------------------------ how it is read

_TYPES = frozenset({"string", "integer", "number", "boolean", "null", "object", "array"})
_TIME = r"([01]\d|2[0-3]):[0-5]\d:[0-5]\d(\.\d{3})?(Z|[+-]([01]\d|2[0-3]):[0-5]\d)"
_DATE = r"\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])"
_UUID = "^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$"
_FORMATS = {"date": f"^{_DATE}$", "time": f"^{_TIME}$", "date-time": f"^{_DATE}T{_TIME}$", "uuid": _UUID}
_FORMATS |= {f"uuid{version}": _UUID for version in range(1, 6)}
"""Formats that are followed; others are any string."""


def read_schema(text: str) -> Schema:
    """The schema in this JSON. Raises SchemaRefused."""
    if len(text) > MOST_CHARACTERS:
        raise SchemaRefused(f"expected a schema of at most {MOST_CHARACTERS} characters, got {len(text)}")
    try:
        schema = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise SchemaRefused("expected a schema of plain JSON, not too deep") from error
    _check_size(schema)
    return _Reader(schema).read()


def _refuse_constant(name: str) -> None:
    raise SchemaRefused(f"expected a schema of plain JSON, got {name}")


def _check_size(schema: object) -> None:
    todo, n_nodes = [(schema, 0)], 0
    while todo:
        node, depth = todo.pop()
        n_nodes += 1
        if n_nodes > _MOST_NODES or depth > _DEEPEST:
            raise SchemaRefused(f"expected at most {_MOST_NODES} values in at most {_DEEPEST} levels of a schema")
        if isinstance(node, dict | list):
            todo.extend((one, depth + 1) for one in (node.values() if isinstance(node, dict) else node))


class _Reader:
    """Reads one schema; keywords that are not understood are passed over."""

    def __init__(self, schema: object) -> None:
        self._schema = schema
        self._targets: dict[str, Form] = {}
        self._todo: list[str] = []
        self._n_fields = 0
        self._n_values = 0
        self._n_repeated = 0

    def read(self) -> Schema:
        root = Basic("object") if self._schema in ({}, True) else self._form(self._schema)
        seen = set(self._todo)
        while self._todo:
            pointer = self._todo.pop()
            self._targets[pointer] = self._form(self._find(pointer))
            self._todo = [one for one in self._todo if one not in self._targets]
            seen.update(self._todo)
            if len(seen) > _MOST_TARGETS:
                raise SchemaRefused(f"expected at most {_MOST_TARGETS} parts that $ref names")
        return Schema(root, self._targets)

    def _form(self, schema: Any) -> Form:
        if schema is True or schema == {}:
            return Basic("value")
        if not isinstance(schema, dict):
            raise SchemaRefused(f"expected schemas that are objects, got {_kind(schema)}")
        if "$ref" in schema:
            return self._reference(schema["$ref"])
        choices = schema.get("anyOf") or schema.get("oneOf")
        if "anyOf" in schema or "oneOf" in schema:
            return Union(tuple(self._form(one) for one in _list("anyOf", choices, 1)))
        if "const" in schema or "enum" in schema:
            return self._constants([schema["const"]] if "const" in schema else _list("enum", schema["enum"], 1))
        if isinstance(schema.get("type"), list):
            types = _list("type", schema["type"], 1)
            return Union(tuple(self._typed({**schema, "type": one}, one) for one in types))
        return self._typed(schema, schema.get("type"))

    def _typed(self, schema: Mapping[str, Any], kind: object) -> Form:
        if kind is not None and (not isinstance(kind, str) or kind not in _TYPES):
            raise SchemaRefused(f"expected a type of {', '.join(sorted(_TYPES))}, got {_shown(kind)}")
        if kind in (None, "object") and ("allOf" in schema or _has_fields(schema)):
            return self._object(schema)
        if kind in (None, "array") and ("items" in schema or "prefixItems" in schema):
            return self._array(schema)
        if kind in (None, "string"):
            found = self._string(schema)
            if found is not None:
                return found
        if kind == "array":
            return self._items(Basic("value"), schema)
        return Basic("value" if kind is None else str(kind))

    def _string(self, schema: Mapping[str, Any]) -> Form | None:
        if "pattern" in schema:
            return Pattern(_text("pattern", schema["pattern"]))
        wanted = schema.get("format")
        if isinstance(wanted, str) and wanted in _FORMATS:
            return Pattern(_FORMATS[wanted])
        if "minLength" in schema or "maxLength" in schema:
            return Characters(*self._bounds(schema, "minLength", "maxLength"))
        return None

    def _constants(self, values: Sequence[object]) -> Form:
        self._n_values += len(values)
        if self._n_values > _MOST_VALUES:
            raise SchemaRefused(f"expected at most {_MOST_VALUES} values in enums, got more")
        return Constants(tuple(dict.fromkeys(as_json(one) for one in values)))

    def _object(self, schema: Mapping[str, Any]) -> Form:
        components = [self._resolved(one) for one in _list("allOf", schema.get("allOf", []), 0)]
        if len(components) == 1 and not _has_fields(schema):
            return self._form(schema["allOf"][0])
        values: dict[str, Any] = {}
        required: set[str] = set()
        for one in [schema, *components]:
            choices = [] if one is schema else [self._resolved(c) for c in _list("anyOf", one.get("anyOf", []), 0)]
            for part in (one, *choices):
                values.update(_object("properties", part.get("properties", {})))
            required.update(_text("required", name) for name in _list("required", one.get("required", []), 0))
        self._n_fields += len(values)
        if self._n_fields > _MOST_FIELDS:
            raise SchemaRefused(f"expected at most {_MOST_FIELDS} properties, got more")
        extra = schema.get("additionalProperties", False)
        if components and not values and extra is False:
            raise SchemaRefused("expected allOf of objects with properties, got others")
        forms = {name: self._form(value) for name, value in values.items()}
        return Fields(
            tuple((name, form) for name, form in forms.items() if name in required),
            tuple((name, form) for name, form in forms.items() if name not in required),
            None if extra is False else self._form(extra),
        )

    def _array(self, schema: Mapping[str, Any]) -> Form:
        places = schema.get("prefixItems", schema.get("items"))
        if isinstance(places, list):
            return Places(tuple(self._form(one) for one in places))
        return self._items(self._form(places), schema)

    def _items(self, item: Form, schema: Mapping[str, Any]) -> Form:
        if "minItems" not in schema and "maxItems" not in schema and item == Basic("value"):
            return Basic("array")
        return Items(item, *self._bounds(schema, "minItems", "maxItems"))

    def _bounds(self, schema: Mapping[str, Any], low: str, high: str) -> tuple[int, int | None]:
        least = _count(low, schema.get(low, 0))
        most = None if schema.get(high) is None else _count(high, schema[high])
        if most is not None and most < least:
            raise SchemaRefused(f"expected {high} of at least {low}, got less")
        self._n_repeated += least if most is None else most
        if self._n_repeated > _MOST_REPEATED_IN_ALL:
            raise SchemaRefused(f"expected {low} and {high} of at most {_MOST_REPEATED_IN_ALL} together, got more")
        return least, most

    def _reference(self, pointer: object) -> Reference:
        text = _text("$ref", pointer)
        if text != "#" and not text.startswith("#/"):
            raise SchemaRefused(f"expected $ref to begin with #/, got {_shown(text)}")
        self._todo.append(text)
        return Reference(text)

    def _resolved(self, schema: Any) -> Mapping[str, Any]:
        """A component of allOf, whose properties become the object's own."""
        found = _object("allOf", schema)
        return _object("$ref", self._find(_text("$ref", found["$ref"]))) if "$ref" in found else found

    def _find(self, pointer: str) -> Any:
        found: Any = self._schema
        for step in pointer.split("/")[1:]:
            key = step.replace("~1", "/").replace("~0", "~")
            if isinstance(found, dict) and key in found:
                found = found[key]
            elif isinstance(found, list) and key.isascii() and key.isdigit() and len(key) < 5 and int(key) < len(found):
                found = found[int(key)]
            else:
                raise SchemaRefused(f"expected $ref to name a part of the schema, got {_shown(pointer)}")
        return found


def _has_fields(schema: Mapping[str, Any]) -> bool:
    return "properties" in schema or schema.get("additionalProperties", True) is not True


def _kind(value: object) -> str:
    return type(value).__name__


def _text(name: str, value: object) -> str:
    if not isinstance(value, str):
        raise SchemaRefused(f"{name}: expected text, got {_kind(value)}")
    return value


def _object(name: str, value: object) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise SchemaRefused(f"{name}: expected an object, got {_kind(value)}")
    return value


def _list(name: str, value: object, least: int) -> list[Any]:
    if not isinstance(value, list) or len(value) < least:
        raise SchemaRefused(f"{name}: expected a list of at least {least}, got less or {_kind(value)}")
    return value


def _shown(value: object) -> str:
    """What came, so short that it costs nothing."""
    if isinstance(value, str):
        return repr(value[:_SHOWN])
    if isinstance(value, int) and value.bit_length() > _SHOWN:
        return "one of many digits"
    return repr(value) if isinstance(value, int | float) else _kind(value)


def _count(name: str, value: object) -> int:
    # A comparison first: of a number with 400 digits nothing else is cheap.
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= _MOST_REPEATED:
        raise SchemaRefused(f"{name}: expected a number in [0, {_MOST_REPEATED}], got {_shown(value)}")
    if value != int(value):
        raise SchemaRefused(f"{name}: expected a whole number, got {_shown(value)}")
    return int(value)
