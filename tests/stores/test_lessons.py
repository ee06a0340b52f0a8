"""A lesson survives being kept."""

import json
from collections.abc import Mapping
from dataclasses import is_dataclass, replace
from typing import Any, get_args, get_origin, get_type_hints

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from echo_proxy.stores.lessons import lesson_from, lesson_text, lessons_from
from echo_proxy.types import Amendment, Context, Lesson
from tests.contracts import amendment, lesson, without_vector

numbers = st.floats(allow_nan=False, allow_infinity=False)


@given(st.lists(numbers), numbers, st.none() | numbers, st.text(st.characters(exclude_categories=["Cs"])))
def test_all_but_the_vector_is_exact(values: list[float], cost_usd: float, wait_s: float | None, name: str) -> None:
    """Whatever numbers and names it holds."""
    situation = replace(lesson("d").situation, context=Context(name, tuple(values)), vector=None)
    given_one = lesson(name, situation=situation, cost_usd=cost_usd, time_to_first_token_s=wait_s)

    assert lesson_from(lesson_text(given_one)) == given_one


def filled(kind: Any) -> Any:
    """A value of a type in which no field, however deep, has its default."""
    if is_dataclass(kind):
        return kind(**{name: filled(inner) for name, inner in get_type_hints(kind).items()})  # type: ignore[operator]
    origin, inner = get_origin(kind), get_args(kind)
    if origin is np.ndarray:
        return np.ones(1, dtype=np.float32)
    if origin is tuple:
        return (filled(inner[0]), filled(inner[0]))
    if origin is Mapping:
        return {"small": filled(inner[1])}
    return filled(inner[0]) if inner else {bool: False, int: 3, float: 0.25, str: "x"}[kind]


@pytest.mark.parametrize("kind", [Lesson, Amendment])
def test_no_field_is_forgotten(kind: type[Lesson | Amendment]) -> None:
    """One that is added to a record and not kept would come back as its default."""
    assert lesson_from(lesson_text(filled(kind))) == filled(kind)


@given(st.integers(1, 2000), st.integers(0, 2**32))
def test_a_vector_of_any_size_is_rounded_and_keeps_its_length(dimensions: int, seed: int) -> None:
    """float16 has 11 bits: its cosine distance to what it was is far below any that matters."""
    vector = np.random.default_rng(seed).normal(size=dimensions).astype(np.float32)
    vector /= np.linalg.norm(vector)
    got = lesson_from(lesson_text(replace(lesson("d"), situation=replace(lesson("d").situation, vector=vector))))

    assert isinstance(got, Lesson)
    seen = got.situation.vector
    assert seen is not None
    assert (seen.dtype, seen.shape) == (np.float32, (dimensions,))
    assert abs(float(np.linalg.norm(seen)) - 1.0) < 1e-5
    assert 1.0 - float(seen @ vector) < 1e-5


def test_numbers_of_numpy_are_numbers() -> None:
    """A bandit's arrays may hand them over."""
    given_one = lesson(
        "d", pmf=(np.float64(0.75), np.float32(0.25)), prompt_tokens=np.int64(7), is_acted=np.bool_(True)
    )

    assert without_vector(lesson_from(lesson_text(given_one))) == without_vector(lesson("d", prompt_tokens=7))  # type: ignore[arg-type]


def test_the_text_is_readable() -> None:
    """Plain JSON, with a version for those who come later."""
    found = json.loads(lesson_text(amendment("d")))

    assert (found["version"], found["kind"], found["decision_id"], found["revision"]) == (1, "amendment", "d", 2)


def test_what_was_added_since_takes_its_default() -> None:
    """A field with a default may be missing, and an unknown one is no harm."""
    found = json.loads(lesson_text(without_vector(lesson("d"))))
    del found["situation"]["conditions"]["budget_price"], found["situation"]["conditions"]["loads"]["small"]["waiting"]
    got = lesson_from(json.dumps(found | {"mood": "sunny"}))

    assert isinstance(got, Lesson)
    assert got.situation.conditions.budget_price == 0.0
    assert got.situation.conditions.loads["small"].waiting == 0.0


def changed(**changes: object) -> str:
    return json.dumps(json.loads(lesson_text(lesson("d"))) | changes)


TRIAL = {"example_id": "e", "schema": "u", "features": [], "propensity": 1.0, "is_chosen": True}
EVIDENCE = {"key": {"arm": "a", "segment": "all"}, "weight": 1.0, "reward": 1.0, "is_served": True}


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "null", "[]", "7", "{}", b"\xff", '{"version": 1}'),
        changed(version=2),
        changed(kind="sermon"),
        changed(kind=[]),
        changed(situation=None),
        changed(situation={}),
        changed(evidence=[1]),
        changed(trials=None),
        lesson_text(lesson("d")).replace('"vector":"', '"vector":"?'),
        lesson_text(replace(lesson("d"), situation=replace(lesson("d").situation, vector=np.zeros(3, np.float32)))),
        lesson_text(replace(lesson("d"), situation=replace(lesson("d").situation, vector=np.full(3, np.nan)))),
        changed(means=[0.5]),
        changed(pmf=[0.5, 0.25, 0.25]),
        changed(pmf=[0.5, float("nan")]),
        changed(pmf=[-0.5, 1.5]),
        changed(means=[0.5, float("inf")]),
        changed(means=[0.5, "0.5"]),
        changed(means=[0.5, None]),
        changed(arms=["a", None]),
        changed(at=float("nan")),
        changed(reward=1.5),
        changed(quality=-0.1),
        changed(cost_usd=float("inf")),
        changed(latency_s="1"),
        changed(time_to_first_token_s=float("nan")),
        changed(prompt_tokens=10**400),
        changed(decision_id=7),
        changed(trials=[{**TRIAL, "propensity": 0.0}]),
        changed(trials=[{**TRIAL, "features": [float("nan")]}]),
        changed(evidence=[{**EVIDENCE, "reward": 2.0}]),
        changed(evidence=[{**EVIDENCE, "weight": -1.0}]),
        lesson_text(amendment("d")).replace('"quality":0.0', '"quality":NaN'),
    ],
)
def test_what_is_no_lesson_is_told_apart(text: str | bytes) -> None:
    """By one error, and it does not keep the others from being read."""
    with pytest.raises(ValueError):  # noqa: PT011 - the message is for the log; what was wrong is in the case
        lesson_from(text)

    assert lessons_from([text, lesson_text(amendment("d"))]) == (amendment("d"),)
