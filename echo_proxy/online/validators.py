"""What can be told of an answer by looking at it alone? One small rule per signal: 1 content, 0 not, None cannot tell.

Nothing here executes what an answer says, and nothing takes long: this runs on the event loop, and answers are written
by strangers. Each rule says how much it reads; what is longer it does not judge.
"""

import ast
import json
import textwrap
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from functools import lru_cache
from time import monotonic
from typing import Any

import regex
from jsonschema import Draft202012Validator, validators
from jsonschema.exceptions import ValidationError
from jsonschema.protocols import Validator
from jsonschema.validators import validator_for
from referencing import Registry
from referencing.exceptions import Unresolvable

from echo_proxy.online.arithmetic import equations_hold
from echo_proxy.policy import JudgePolicy
from echo_proxy.types import Outcome

_CUT_SHORT = frozenset({"length", "max_tokens", "incomplete", "model_context_window_exceeded"})
"""Finish reasons of an answer that hit a limit, over all endpoints."""
_REFUSED = frozenset({"content_filter", "refusal"})
"""Finish reasons of an answer that the model or its provider withheld, over all endpoints."""
_MAX_PATTERN = 50_000
"""Characters that a pattern may be searched in."""
_CHECK_S = 0.02
"""Seconds that a pattern or a schema may take: some take for ever on some texts. `regex` can be told to give up; it
looks at the clock every so often, so up to about 0.1 s have been seen."""
_until: ContextVar[float] = ContextVar("echo_until")
"""Monotonic seconds until which the check under way may go on."""
_MAX_JSON = 200_000
"""Characters that are parsed to see whether they are JSON: 25 ms at worst."""
_MAX_SCHEMA = 50_000
"""Characters of JSON that are checked against a schema."""
_MAX_CODE = 10_000
"""Characters of code that are parsed: 40 ms."""
_MAX_FENCED = 100_000
"""Characters in which code is looked for."""
_PYTHON = frozenset({"python", "python3", "py"})
_MAX_REPETITION = 5_000
_N_GRAM = 4
_MIN_GRAMS = 50
"""Shorter texts repeat themselves by chance. # guess, not yet measured"""
_LONG_WORD = 16
"""Scripts without spaces make words of whole sentences: they are counted by character."""

Signals = dict[str, float]
Verdict = bool | None


def validate(outcome: Outcome, wants_json: bool, rules: JudgePolicy) -> Signals:
    """Each validator's verdict on an outcome, by name; those that cannot tell, or are not asked for, are left out."""
    if outcome.error is not None:
        return {"answered": 0.0}
    text = outcome.text
    checks: Mapping[str, Callable[[], Verdict]] = {
        "answered": lambda: True,
        "whole": lambda: outcome.finish_reason not in _CUT_SHORT,
        "length": lambda: has_length(outcome, rules.min_tokens, rules.max_tokens),
        "refusal": lambda: outcome.finish_reason not in _REFUSED and not is_refusal(text, rules),
        "json": lambda: is_json(text) if wants_json else None,
        "schema": lambda: fulfils(text, rules.json_schema) if wants_json and rules.json_schema is not None else None,
        "pattern": lambda: matches(text, rules.pattern) if rules.pattern else None,
        "code": lambda: code_parses(text) if rules.code_compiles else None,
        "arithmetic": lambda: equations_hold(text) if rules.arithmetic else None,
        "repetition": lambda: repetition(text) <= rules.max_repetition if rules.max_repetition < 1 else None,
    }
    verdicts = {name: check() for name, check in checks.items()}
    return {name: float(verdict) for name, verdict in verdicts.items() if verdict is not None}


VALIDATORS = frozenset(
    {"answered", "whole", "length", "refusal", "json", "schema", "pattern", "code", "arithmetic", "repetition"}
)
"""Names of the signals that `validate` gives."""


def has_length(outcome: Outcome, least: int, most: int | None) -> bool:
    """Whether the answer is long enough and not too long; an empty one never is."""
    n_tokens = _n_tokens(outcome)
    return max(least, 1) <= n_tokens and (most is None or n_tokens <= most)


def _n_tokens(outcome: Outcome) -> int:
    """Tokens of the answer; words where the provider reports no usage."""
    return max(outcome.completion_tokens, len(outcome.text.split())) if outcome.text.strip() else 0


def is_refusal(text: str, rules: JudgePolicy) -> bool:
    """Whether the answer begins as refusals do."""
    beginning = _plain(text)
    return any(beginning.startswith(_plain(refusal)) for refusal in rules.refusals)


def _plain(text: str) -> str:
    return text.strip().lower().replace("\u2019", "'")


# ------------------------------------------------------------------ JSON


def is_json(text: str) -> Verdict:
    """Whether the text is JSON and nothing else. What is nested deeper than Python can follow is not."""
    if len(text) > _MAX_JSON:
        return None
    try:
        json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return False
    return True


def _refuse(name: str) -> None:
    """NaN and Infinity, which Python would read, are no JSON."""
    raise ValueError(name)


def fulfils(text: str, schema: Mapping[str, Any]) -> Verdict:
    """Whether the text is JSON as the schema wants it."""
    if len(text) > _MAX_SCHEMA:
        return None
    if not is_json(text):
        return False
    until = _until.set(monotonic() + _CHECK_S)
    try:
        _checker(json.dumps(schema)).validate(json.loads(text))
    except ValidationError:
        return False
    except (TimeoutError, RecursionError, Unresolvable):  # the schema's fault, not the answer's
        return None
    finally:
        _until.reset(until)
    return True


@lru_cache(maxsize=32)
def _checker(schema: str) -> Validator:
    """A validator that fetches nothing from the network, and gives up in time."""
    parsed = json.loads(schema)
    kind = validator_for(parsed, default=Draft202012Validator)
    own = {"pattern": _pattern, "patternProperties": _pattern_properties, "uniqueItems": _unique_items}
    keywords = {name: _in_time(check) for name, check in {**kind.VALIDATORS, **own}.items()}
    make: Callable[..., Validator] = validators.extend(kind, keywords)  # type: ignore[no-untyped-call]
    return make(parsed, registry=Registry())


def _in_time(check: Callable[..., Any]) -> Callable[..., Any]:
    """The check of one keyword, as long as there is time."""

    def timed(checker: Any, value: Any, instance: Any, schema: Any) -> Any:
        _left_s()
        return check(checker, value, instance, schema)

    return timed


def _pattern(checker: Any, pattern: str, instance: Any, schema: Any) -> Any:
    if isinstance(instance, str) and not _search(pattern, instance):
        yield ValidationError(f"{instance!r:.80} does not match {pattern!r}")


def _pattern_properties(checker: Any, patterns: Mapping[str, Any], instance: Any, schema: Any) -> Any:
    if not isinstance(instance, dict):
        return
    for pattern, inner in patterns.items():
        for name, value in instance.items():
            if _search(pattern, name):
                yield from checker.descend(value, inner, path=name, schema_path=pattern)


def _unique_items(checker: Any, wanted: bool, instance: Any, schema: Any) -> Any:
    """The package's own may compare every item with every other."""
    if wanted and isinstance(instance, list):
        seen = {json.dumps(one, sort_keys=True) for one in instance}
        if len(seen) < len(instance):
            yield ValidationError("items are not unique")


# ------------------------------------------------------------------ pattern


def matches(text: str, pattern: str) -> Verdict:
    """Whether the pattern is found in the text."""
    if len(text) > _MAX_PATTERN:
        return None
    until = _until.set(monotonic() + _CHECK_S)
    try:
        return _search(pattern, text)
    except TimeoutError:
        return None
    finally:
        _until.reset(until)


def _search(pattern: str, text: str) -> bool:
    """Raises TimeoutError."""
    return regex.search(pattern, text, timeout=_left_s()) is not None


def _left_s() -> float:
    """Seconds that the check under way may take yet. Raises TimeoutError."""
    left_s = _until.get() - monotonic()
    if left_s <= 0:
        raise TimeoutError
    return left_s


# ------------------------------------------------------------------ code


def code_parses(text: str) -> Verdict:
    """Whether every fenced block of Python is Python. It is parsed, never run; None when there is none to judge."""
    blocks = [block for block in _blocks(text) if not block.lstrip().startswith((">>>", "%", "!", "$"))]
    if not blocks or sum(map(len, blocks)) > _MAX_CODE:
        return None
    verdicts = [_parses(block) for block in blocks]
    return None if None in verdicts else all(verdicts)


def _blocks(text: str) -> Sequence[str]:
    """Fenced blocks of Python, without their fences; one that is not closed was cut off and is left out."""
    blocks: list[str] = []
    lines: list[str] | None = None
    is_python = False
    for line in text[:_MAX_FENCED].splitlines(keepends=True):
        mark = line.strip()
        if not mark.startswith("```"):
            if lines is not None:
                lines.append(line)
        elif lines is None:
            lines, is_python = [], mark.strip("`").strip().lower() in _PYTHON
        elif mark.strip("`") == "":
            blocks += [textwrap.dedent("".join(lines))] if is_python else []
            lines = None
    return blocks


def _parses(code: str) -> Verdict:
    """None when it is nested deeper than Python's parser can follow, which correct code may be as well."""
    try:
        with warnings.catch_warnings(action="ignore"):
            ast.parse(code)
    except (RecursionError, MemoryError):
        return None
    except (SyntaxError, ValueError):
        return False
    return True


# ------------------------------------------------------------------ repetition


def repetition(text: str) -> float:
    """Share of the text's runs of four words that have stood in it before, [0, 1]; 0 for short texts.

    Read are the first and the last 5,000 characters: a model that has begun to repeat itself does so to the end.
    """
    if len(text) > 2 * _MAX_REPETITION:
        return max(repetition(text[:_MAX_REPETITION]), repetition(text[-_MAX_REPETITION:]))
    words: Sequence[str] = text.lower().split()
    if words and sum(map(len, words)) / len(words) > _LONG_WORD:
        words = "".join(words)
    grams = [tuple(words[i : i + _N_GRAM]) for i in range(len(words) - _N_GRAM + 1)]
    return 1 - len(set(grams)) / len(grams) if len(grams) >= _MIN_GRAMS else 0.0
