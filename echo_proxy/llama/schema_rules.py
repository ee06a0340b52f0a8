"""How is a form of JSON said to llama.cpp? As rules in GBNF, in which the next character nearly always decides."""

from echo_proxy.llama.pattern import Effort, pattern_rules
from echo_proxy.llama.schema import (
    Basic,
    Characters,
    Constants,
    Fields,
    Form,
    Items,
    Pattern,
    Places,
    Reference,
    Schema,
    SchemaRefused,
    Union,
    as_json,
)

MOST_BYTES = 1 << 17
"""A grammar is parsed on the engine's thread, while all others wait."""

_BASIC = {
    "space": '" "?',
    "char": r'[^"\\\x7F\x00-\x1F] | "\\" (["\\/bfnrt] | "u" [0-9a-fA-F] [0-9a-fA-F] [0-9a-fA-F] [0-9a-fA-F])',
    "string": r'"\"" char* "\"" space',
    "integral": '"0" | [1-9] [0-9]{0,15}',
    "number": '"-"? integral ("." [0-9]{1,16})? ([eE] [-+]? integral)? space',
    "integer": '"-"? integral space',
    "boolean": '("true" | "false") space',
    "null": '"null" space',
    "value": "object | array | string | number | boolean | null",
    "object": '"{" space ( string ":" space value ("," space string ":" space value)* )? "}" space',
    "array": '"[" space ( value ("," space value)* )? "]" space',
}


def schema_rules(schema: Schema) -> str:
    """The grammar, with `root` as its start. Raises SchemaRefused."""
    writer = _Writer(schema)
    writer.rules["root"] = writer.name(schema.root)
    for pointer, form in schema.targets.items():
        writer.rules[writer.target(pointer)] = writer.name(form)
    rules = "\n".join(f"{name} ::= {rule}" for name, rule in writer.rules.items())
    if len(rules.encode()) > MOST_BYTES:
        raise SchemaRefused("expected a smaller schema")
    return rules


class _Writer:
    """Gives each form a rule; names say nothing of the schema."""

    def __init__(self, schema: Schema) -> None:
        self.rules = dict(_BASIC)
        self._names: dict[Form, str] = {}
        self._targets = {pointer: f"ref-{number}" for number, pointer in enumerate(schema.targets)}
        self._n_bytes = 0
        self._effort = Effort()

    def target(self, pointer: str) -> str:
        """The name of what a reference means."""
        return self._targets[pointer]

    def name(self, form: Form) -> str:
        """Of the form's rule. Equal forms share one, and so the ways to read them."""
        if isinstance(form, Basic):
            return form.name
        if isinstance(form, Reference):
            return self._targets[form.pointer]
        if form not in self._names:
            self._names[form] = f"form-{len(self._names)}"
            self._write(self._names[form], form)
        return self._names[form]

    def _write(self, name: str, form: Form) -> None:
        if isinstance(form, Characters):
            self._add(name, f'"\\"" {_repeated("char", form.least, form.most)} "\\"" space')
        elif isinstance(form, Pattern):
            for one, rule in pattern_rules(form.pattern, name, self._effort).items():
                self._add(one, rule)
        elif isinstance(form, Constants):
            self._write_texts(name, form.texts)
        elif isinstance(form, Fields):
            self._write_fields(name, form)
        elif isinstance(form, Items):
            self._write_items(name, form)
        elif isinstance(form, Places):
            self._add(name, f'"[" space {_comma.join(map(self.name, form.items))} "]" space')
        elif isinstance(form, Union):
            self._add(name, " | ".join(dict.fromkeys(map(self.name, form.choices))))

    def _add(self, name: str, rule: str) -> None:
        self._n_bytes += len(rule)
        if self._n_bytes > MOST_BYTES:
            raise SchemaRefused("expected a smaller schema")
        self.rules[name] = rule

    def _write_texts(self, name: str, texts: tuple[str, ...]) -> None:
        """As a tree: what several texts begin with is read once."""
        todo, n_rules = [(name, list(texts))], 0
        while todo:
            rule, rest = todo.pop()
            by_first: dict[str, list[str]] = {}
            for text in rest:
                by_first.setdefault(text[:1], []).append(text)
            ways = []
            for group in by_first.values():
                shared = _shared(group)
                if len(group) == 1:
                    ways.append(_literal(shared))
                    continue
                n_rules += 1
                ways.append(f"{_literal(shared)} {name}-{n_rules}")
                todo.append((f"{name}-{n_rules}", [text[len(shared) :] for text in group]))
            self._add(rule, " | ".join(ways))

    def _write_items(self, name: str, form: Items) -> None:
        if form.most == 0:
            return self._add(name, '"[" space "]" space')
        item = self.name(form.item)
        # A rule of its own: llama.cpp counts all that is in parentheses for each repetition.
        self._add(f"{name}-more", f'"," space {item}')
        most = None if form.most is None else form.most - 1
        inside = f"{item} {_repeated(f'{name}-more', max(form.least - 1, 0), most)}"
        return self._add(name, f'"[" space {inside if form.least else f"( {inside} )?"} "]" space')

    def _write_fields(self, name: str, form: Fields) -> None:
        required = _comma.join(self._field(one, value) for one, value in form.required)
        optional = [self._field(one, value) for one, value in form.optional]
        if form.extra is not None:
            any_field = f'string ":" space {self.name(form.extra)}'
            optional.append(f'{any_field} ("," space {any_field})*')
        rest = ""
        if optional:
            self._write_optional(name, optional)
            rest = f"{name}-after-0" if required else f"({name}-pick-0)?"
        self._add(name, f'"{{" space {required} {rest} "}}" space')

    def _write_optional(self, name: str, optional: list[str]) -> None:
        """`pick` chooses one of those that are left, `after` comes behind one: a comma and another, or nothing."""
        last = len(optional) - 1
        for at, field in enumerate(optional):
            self._add(f"{name}-after-{at}", f'("," space {name}-pick-{at})?')
            follows = f" {name}-after-{at + 1}" if at < last else ""
            self._add(f"{name}-pick-{at}", field + follows + (f" | {name}-pick-{at + 1}" if at < last else ""))

    def _field(self, name: str, value: Form) -> str:
        return f'{_literal(as_json(name))} space ":" space {self.name(value)}'


_comma = ' "," space '


def _repeated(name: str, least: int, most: int | None) -> str:
    if most == 0:
        return ""
    return f"{name}{{{least},{'' if most is None else most}}}"


def _shared(texts: list[str]) -> str:
    """What they all begin with."""
    first, last = min(texts), max(texts)
    n_same = next(
        (at for at, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last))
    )
    return first[:n_same]


def _literal(text: str) -> str:
    """Text in GBNF. Quotation marks and backslashes of callers must not end it: what follows would be rules."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
