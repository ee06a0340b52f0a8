"""How does a lesson become a text that a store keeps, and back?"""

import asyncio
import base64
import json
import logging
import sys
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np
from pydantic_core import from_json

from echo_proxy.types import (
    Amendment,
    ArmKey,
    Conditions,
    Context,
    Embedding,
    Evidence,
    Forecast,
    Lesson,
    LessonPage,
    Load,
    Situation,
    Trial,
)

log = logging.getLogger("echo_proxy")

VERSION = 1
"""Of the text; one of a later version is skipped by a proxy that does not know it."""
_RECORDS: tuple[type[Any], ...] = (Amendment, Conditions, Evidence, Forecast, Lesson, Load, Situation, Trial)
_NAMES = {record: tuple(field.name for field in fields(record)) for record in _RECORDS}

_MOST = sys.float_info.max
_ROUNDING = 1e-9
"""Sums of weighted shares may lie so far beyond 1."""

Read = Callable[[str, int], Awaitable[Sequence[tuple[str, str | bytes]]]]
"""Cursor and limit > the entries after it, oldest first: where each one lies, and its text."""


def kind_of(lesson: Lesson | Amendment) -> str:
    """What an entry says that it is."""
    return "lesson" if isinstance(lesson, Lesson) else "amendment"


def lesson_text(lesson: Lesson | Amendment) -> str:
    """Readable JSON, ASCII only; a vector is base64 of little-endian float16, 2 bytes per dimension."""
    found = {"version": VERSION, "kind": kind_of(lesson), **_plain(lesson)}
    return json.dumps(found, default=_plain, separators=(",", ":"))


def lesson_from(text: str | bytes) -> Lesson | Amendment:
    """The lesson as it was, its vector rounded. Raises ValueError when the text is none, of another version, or holds
    what no model could be fitted to."""
    try:
        found = from_json(text)  # a third of what json.loads takes
        if found["version"] != VERSION:
            raise ValueError(f"a lesson must have version {VERSION}, got {found['version']!r}")
        return _READERS[found["kind"]](found)
    except (KeyError, TypeError, AttributeError, OverflowError) as error:
        raise ValueError(f"a lesson must have all its fields, got {type(error).__name__}: {error}") from error


def lessons_from(texts: Iterable[str | bytes]) -> tuple[Lesson | Amendment, ...]:
    """Those that can be read; the others must not keep anybody from learning."""
    lessons = []
    for text in texts:
        try:
            lessons.append(lesson_from(text))
        except ValueError as error:
            log.debug("a stored lesson is skipped: %s", error)
    return tuple(lessons)


async def read_page(read: Read, cursor: str, limit: int) -> LessonPage:
    """The next lessons; none only when there are no more entries.

    They are decoded in a thread: a page of thousands takes longer than any request should wait.
    """
    lessons: tuple[Lesson | Amendment, ...] = ()
    while limit > 0 and not lessons and (entries := await read(cursor, limit)):
        lessons = await asyncio.to_thread(lessons_from, [text for _, text in entries])
        cursor = entries[-1][0]
    return LessonPage(lessons, cursor)


# ------------------------------------------------------------------ to plain values


def _plain(value: Any) -> Any:
    """What json.dumps does not know: our records, mappings, vectors, numbers of numpy."""
    if is_dataclass(value):
        return {field.name: getattr(value, field.name) for field in fields(value)}
    if isinstance(value, np.ndarray):
        return base64.b64encode(value.astype("<f2").tobytes()).decode()
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"a lesson must hold records, texts and numbers, got {type(value).__name__}")


# ------------------------------------------------------------------ what can be learned from


def _check_outcome(one: Lesson | Amendment) -> None:
    _check_texts("a decision", [one.decision_id])
    _check_within("reward, quality and its weight", [one.reward, one.quality, one.quality_weight], 0.0, 1.0)
    _check_within("rewards of evidence", [known.reward for known in one.evidence], 0.0, 1.0)
    _check_within("weights of evidence", [known.weight for known in one.evidence], 0.0, _MOST)
    _check_texts("arms and segments", [name for known in one.evidence for name in (known.key.arm, known.key.segment)])


def _check_lesson(one: Lesson) -> None:
    situation, trials = one.situation, one.trials
    if not len(one.arms) == len(one.pmf) == len(one.means):
        raise ValueError(f"arms, pmf and means must agree, got {len(one.arms)}, {len(one.pmf)} and {len(one.means)}")
    _check_texts("names", [*one.arms, one.arm, one.caller, one.circle, situation.segment, situation.context.schema])
    _check_within("probabilities", [*one.pmf, situation.utility], 0.0, 1.0)
    _check_within("propensities", [trial.propensity for trial in trials], 2 * _ROUNDING, 1.0)
    first_token_s = 0.0 if one.time_to_first_token_s is None else one.time_to_first_token_s
    counted = [one.prompt_tokens, one.completion_tokens, situation.n_chosen, one.threshold]
    features = [value for trial in trials for value in trial.features]
    values = [*situation.context.values, *situation.context.text, *features]
    _check_within("numbers", [one.at, *one.means, one.cost_usd, one.latency_s, first_token_s, *counted], -_MOST, _MOST)
    _check_within("features", values, -_MOST, _MOST)


def _check_within(name: str, values: Iterable[float], least: float, most: float) -> None:
    """Raises ValueError, also on what is not a number."""
    for value in values:
        if not least - _ROUNDING <= value <= most + _ROUNDING:
            raise ValueError(f"{name} must be in [{least:g}, {most:g}], got {value}")


def _check_texts(name: str, values: Iterable[object]) -> None:
    for value in values:
        if not isinstance(value, str):
            raise ValueError(f"{name} must be text, got {value!r}")


# ------------------------------------------------------------------ from plain values


def _lesson(found: dict[str, Any]) -> Lesson:
    parts = {
        **{name: tuple(found[name]) for name in ("arms", "pmf", "means")},
        "situation": _situation(found["situation"]),
        "evidence": _evidence(found["evidence"]),
        "trials": tuple(_trial(one) for one in found["trials"]),
    }
    lesson = Lesson(**(_known(Lesson, found) | parts))
    _check_outcome(lesson)
    _check_lesson(lesson)
    return lesson


def _amendment(found: dict[str, Any]) -> Amendment:
    amendment = Amendment(**(_known(Amendment, found) | {"evidence": _evidence(found["evidence"])}))
    _check_outcome(amendment)
    return amendment


def _situation(found: dict[str, Any]) -> Situation:
    context, vector, conditions = found["context"], found["vector"], found["conditions"]
    parts = {
        "context": Context(context["schema"], tuple(context["values"]), tuple(context.get("text", ()))),
        "vector": None if vector is None else _vector(vector),
        "conditions": _conditions(conditions),
    }
    return Situation(**(_known(Situation, found) | parts))


def _conditions(found: dict[str, Any]) -> Conditions:
    parts = {
        "loads": {name: Load(**_known(Load, one)) for name, one in found["loads"].items()},
        "forecasts": {name: Forecast(**_known(Forecast, one)) for name, one in found["forecasts"].items()},
    }
    return Conditions(**(_known(Conditions, found) | parts))


def _evidence(found: list[dict[str, Any]]) -> tuple[Evidence, ...]:
    return tuple(
        Evidence(**(_known(Evidence, one) | {"key": ArmKey(one["key"]["arm"], one["key"]["segment"])})) for one in found
    )


def _trial(found: dict[str, Any]) -> Trial:
    return Trial(**(_known(Trial, found) | {"features": tuple(found["features"])}))


def _vector(text: str) -> Embedding:
    """Unit vector again: rounding has changed its length a little."""
    vector = np.frombuffer(base64.b64decode(text, validate=True), dtype="<f2").astype(np.float32)  # (dimensions,)
    norm = float(np.linalg.norm(vector))
    if not 0.0 < norm < np.inf:
        raise ValueError(f"a vector must have a length, got {norm}")
    return vector / np.float32(norm)


def _known(record: type[Any], found: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that the record has; one that was added since takes its default."""
    return {name: found[name] for name in _NAMES[record] if name in found}


_READERS: Mapping[str, Callable[[dict[str, Any]], Lesson | Amendment]] = {"lesson": _lesson, "amendment": _amendment}
