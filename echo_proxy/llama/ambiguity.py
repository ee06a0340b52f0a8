"""In how many ways can the beginning of an answer be read? llama.cpp follows all of them, and they can multiply.

With `anyOf: [{left: X}, {left: X, op}]`, where X is this union again, each `{"left":` doubles them, and twenty of
them end the service. What begins differently is told apart at once and costs nothing.
"""

from collections.abc import Iterator, Sequence

from echo_proxy.llama.schema import (
    Basic,
    Constants,
    Fields,
    Form,
    Items,
    Places,
    Reference,
    Schema,
    SchemaRefused,
    Union,
    as_json,
    parts_of,
)

_MOST_WAYS = 64
_MOST_CHOICES = 1000
"""Forms among which the first character chooses, unions in unions counted each time: llama.cpp looks at all."""
_MOST_STARTS = 100
_LOOK_AHEAD = 4
"""Forms in forms that a beginning is put together from."""

_NUMBER = "#"
"""Stands for all numbers."""
_STARTS = {
    "string": ('"',),
    "integer": (_NUMBER,),
    "number": (_NUMBER,),
    "boolean": ("true", "false"),
    "null": ("null",),
    "object": ("{",),
    "array": ("[",),
    "value": ('"', _NUMBER, "true", "false", "null", "{", "["),
}


def check_ambiguity(schema: Schema) -> None:
    """Raises SchemaRefused for a schema whose answers could be read in too many ways at once."""
    _Ways(schema).check()


class _Ways:
    def __init__(self, schema: Schema) -> None:
        self._schema = schema
        self._reached = _reached(schema)
        self._choices: dict[str, int] = {}
        self._ways: dict[str, int] = {}

    def check(self) -> None:
        for place, form in (("", self._schema.root), *self._schema.targets.items()):
            if max(map(self._n_choices, _within(form))) > _MOST_CHOICES:
                raise SchemaRefused(f"expected at most {_MOST_CHOICES} forms to choose from at one place")
            self._check_returns(place, form)
            if self._n_ways(form) > _MOST_WAYS:
                raise SchemaRefused(
                    f"expected a schema whose answers can be read in at most {_MOST_WAYS} ways at once; "
                    "give the choices of anyOf a first property that tells them apart"
                )

    # ------------------------------------------------------------------ how often a union can be met again

    def _check_returns(self, place: str, form: Form) -> None:
        """That nothing is read beside a way that comes back to the same union: the ways would grow with the depth."""
        for one in _within(form):
            for group in self._groups(one):
                if len(group) > 1 and any(place in self._back(member) for member in group):
                    raise SchemaRefused(
                        "expected choices of anyOf that lead back to it through $ref to differ in their first property "
                        "from the others, and no additionalProperties beside properties that do"
                    )

    def _back(self, form: Form) -> set[str]:
        places: set[str] = set()
        for pointer in _pointers(form):
            places |= {pointer} | self._reached[pointer]
        return places

    def _groups(self, form: Form) -> list[list[Form]]:
        """Choices that are read side by side."""
        if isinstance(form, Union):
            return self._alike(form.choices)
        if isinstance(form, Fields) and form.extra is not None:
            # A name alone decides between the named ones; a name of any text may be each of them.
            named = Places(tuple(value for _, value in (*form.required, *form.optional)))
            return [[named, form.extra]] if named.items else []
        return []

    # ------------------------------------------------------------------ how many ways there are at once

    def _n_ways(self, form: Form) -> int:
        if isinstance(form, Reference):
            if form.pointer not in self._ways:
                self._ways[form.pointer] = 1  # when it is met again inside: that case has been looked at
                self._ways[form.pointer] = self._n_ways(self._schema.targets[form.pointer])
            return self._ways[form.pointer]
        if isinstance(form, Union):
            return max(sum(map(self._n_ways, group)) for group in self._alike(form.choices))
        if isinstance(form, Fields) and form.extra is not None:
            return max(
                (self._n_ways(value) for _, value in (*form.required, *form.optional)), default=0
            ) + self._n_ways(form.extra)
        return max(map(self._n_ways, parts_of(form)), default=1)

    def _n_choices(self, form: Form) -> int:
        """How often llama.cpp goes into a form before it has read a character. Raises SchemaRefused for no end."""
        if isinstance(form, Reference):
            if form.pointer not in self._choices:
                self._choices[form.pointer] = _MOST_CHOICES + 1  # when it is met again inside, before any character
                self._choices[form.pointer] = self._n_choices(self._schema.targets[form.pointer])
            return 1 + self._choices[form.pointer]
        if isinstance(form, Union):
            return 1 + sum(map(self._n_choices, dict.fromkeys(form.choices)))
        return 1

    # ------------------------------------------------------------------ what tells choices apart

    def _alike(self, choices: Sequence[Form]) -> list[list[Form]]:
        """The choices in groups; those of different groups begin differently. Equal ones are one."""
        different = list(dict.fromkeys(choices))
        starts = sorted((text, number) for number, one in enumerate(different) for text in self._starts(one))
        group = list(range(len(different)))
        shortest, owner = "", -1
        for text, number in starts:
            if owner < 0 or not text.startswith(shortest):
                shortest, owner = text, number
            elif group[number] != group[owner]:
                old = group[number]
                group = [group[owner] if one == old else one for one in group]
        by_group: dict[int, list[Form]] = {}
        for number, one in enumerate(different):
            by_group.setdefault(group[number], []).append(one)
        return list(by_group.values())

    def _starts(self, form: Form, depth: int = _LOOK_AHEAD) -> tuple[str, ...]:
        """Texts without spaces, of which one begins whatever has this form."""
        texts: tuple[str, ...]
        if isinstance(form, Basic):
            texts = _STARTS[form.name]
        elif isinstance(form, Constants):
            texts = tuple(_NUMBER if text[0] in "-0123456789" else text.replace(" ", "") for text in form.texts)
        elif isinstance(form, Fields):
            texts = self._starts_of_fields(form, depth)
        elif isinstance(form, Items | Places):
            texts = ("[",)
        elif isinstance(form, Union | Reference):
            inner = form.choices if isinstance(form, Union) else (self._schema.targets[form.pointer],)
            texts = tuple(text for one in inner for text in self._starts(one, depth - 1)) if depth else ("",)
        else:
            texts = ('"',)
        different = tuple(dict.fromkeys(texts))
        return different if len(different) <= _MOST_STARTS else tuple({text[:1] for text in different})

    def _starts_of_fields(self, form: Fields, depth: int) -> tuple[str, ...]:
        if not form.required or not depth:
            return ("{",)
        name, value = form.required[0]
        begin = "{" + as_json(name).replace(" ", "") + ":"
        starts = self._starts(value, depth - 1)
        if not isinstance(value, Constants) or len(starts) > 1:
            return tuple(begin + text for text in starts)
        rest = Fields(form.required[1:], form.optional, form.extra)
        return tuple(f"{begin}{starts[0]},{text[1:]}" for text in self._starts_of_fields(rest, depth - 1))


def _within(form: Form) -> Iterator[Form]:
    todo = [form]
    while todo:
        one = todo.pop()
        yield one
        todo.extend(parts_of(one))


def _pointers(form: Form) -> set[str]:
    return {one.pointer for one in _within(form) if isinstance(one, Reference)}


def _reached(schema: Schema) -> dict[str, set[str]]:
    """By pointer, all that its form leads to."""
    direct = {pointer: _pointers(form) for pointer, form in schema.targets.items()}
    reached: dict[str, set[str]] = {}
    for pointer in direct:
        found, todo = set[str](), [pointer]
        while todo:
            new = direct[todo.pop()] - found
            found |= new
            todo.extend(new)
        reached[pointer] = found
    return reached
