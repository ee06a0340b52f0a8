"""Clusters of requests that are answered badly or expensively, and what becomes of them."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from echo_proxy.online.receive import partition_of
from echo_proxy.types import Conditions, Context, Lesson, Situation
from echo_proxy.upkeep.coverage import find_clusters
from echo_proxy.upkeep.fill import reason_to_leave
from tests.builders import NOW, amendment, example, lesson, record, vector
from tests.fakes import HashingEmbedder
from tests.upkeep.rounds import World, policy_with

PLAIN = partition_of("", False)
COVERAGE = frozenset(("coverage",))


def asked(decision_id: str, *head: float, n_chosen: int = 0, **changes: Any) -> Lesson:
    """A lesson of a request whose vector begins with these numbers."""
    found = Situation("all", Context("c", (1.0,)), vector(*head), 0.0, n_chosen, Conditions())
    given = {"quality": 0.2, "quality_weight": 1.0, "circle": "a", **changes}
    return lesson(decision_id, **given) if "situation" in given else lesson(decision_id, situation=found, **given)


def many(name: str, n: int, *head: float, **changes: Any) -> list[Lesson]:
    """So many that are nearly alike; the middle one is number 0."""
    return [asked(f"{name}{i}", *head[:-1], head[-1] + 0.01 * (i % 3 - 1) * (i > 0), **changes) for i in range(n)]


RULES = policy_with(upkeep={"coverage": {"min_requests": 3}})


def found_in(lessons: Sequence[Lesson], **rules: Any) -> list[tuple[int, float]]:
    made = policy_with(upkeep={"coverage": {"min_requests": 3, **rules}})
    assert made.upkeep.coverage is not None
    return [(one.n_requests, round(one.quality, 3)) for one in find_clusters(lessons, made, made.upkeep.coverage)]


def test_what_is_asked_often_and_answered_badly_comes_first() -> None:
    """Requests times what their answers lack; what is asked seldom is not told."""
    lessons = [
        *many("often", 9, 1.0, 0.0, quality=0.5),
        *many("good", 20, 0.0, 1.0, quality=0.99),
        *many("bad", 4, -1.0, 0.0, quality=0.0),
        *many("seldom", 2, 0.0, -1.0, quality=0.0),
    ]

    assert found_in(lessons) == [(9, 0.5), (4, 0.0), (20, 0.99)]
    assert found_in(lessons, n_clusters=1) == [(9, 0.5)]


def test_dear_answers_count_too() -> None:
    """As much as the policy's reward says."""
    lessons = [
        *many("cheap", 5, 1.0, 0.0, quality=0.9, cost_usd=0.0),
        *many("dear", 5, 0.0, 1.0, quality=0.9, cost_usd=0.009),
    ]
    made = find_clusters(lessons, RULES, RULES.upkeep.coverage)  # type: ignore[arg-type]

    assert [round(one.cost_usd, 4) for one in made] == [0.009, 0.0]


def test_scopes_and_system_prompts_never_mix() -> None:
    """The same question of two tenants makes two clusters, or none."""
    lessons = [*many("a", 3, 1.0, 0.0, circle="a"), *many("b", 3, 1.0, 0.0, circle="b")]

    assert found_in(lessons) == [(3, 0.2), (3, 0.2)]
    assert found_in([*lessons[:2], *lessons[3:5]]) == []


def test_judged_answers_tell_the_quality() -> None:
    """Weighted by how much each estimate counts as evidence."""
    lessons = [
        *many("judged", 1, 1.0, 0.0, quality=0.0, quality_weight=1.0),
        *many("guessed", 9, 1.0, 0.0, quality=0.9, quality_weight=0.05),
    ]

    assert found_in(lessons) == [(10, round(9 * 0.05 * 0.9 / 1.45, 3))]


def test_the_request_in_the_middle_stands_for_all() -> None:
    """And the share that examples helped is told."""
    lessons = [
        asked("edge", 1.0, 0.2),
        asked("middle", 1.0, 0.0, arm="small+2", n_chosen=2),
        asked("other", 1.0, -0.2),
        asked("none", 1.0, 0.0, arm="small+2", n_chosen=0),
    ]
    made = find_clusters(lessons, RULES, RULES.upkeep.coverage)  # type: ignore[arg-type]

    assert made[0].decision_id == "middle"
    assert made[0].with_examples == 0.25


def test_lessons_without_vectors_tell_nothing() -> None:
    """A log without texts has none."""
    bare = [replace(one, situation=replace(one.situation, vector=None)) for one in many("a", 9, 1.0, 0.0)]

    assert found_in(bare) == []


# ------------------------------------------------------------------ in a round


def world_with(fill: bool = True, explanation: Any = None, **policy: Any) -> World:
    """Five requests of one kind; the middle one is on record."""
    rules = policy_with(upkeep={"coverage": {"min_requests": 3, "fill": fill}}, **policy)
    world = World(rules)
    said = {"request": "Who founded Skulia?", "partition": PLAIN, "turns": 1, "may_keep": True, **(explanation or {})}
    world.store.learned += many("d", 5, 1.0, 0.0)
    world.store.records["d0"] = record("d0", scope="key:a", explanation=said)
    return world


def left_out(run: Any) -> Any:
    return run.report["coverage"].get("left_out")


async def test_the_representative_becomes_an_example() -> None:
    """Of its scope, by the writer who asked, with the teacher's answer, and marked as what it is."""
    world = world_with()
    run = await world.round(work=COVERAGE)
    (made,) = world.store.examples.values()

    assert (made.request, made.response, made.origin) == ("Who founded Skulia?", "Paris.", "coverage")
    assert (made.scope, made.partition, made.writer, made.reader) == ("key:a", PLAIN, "a", "")
    assert (made.decision_id, made.teacher, made.quality, made.answer_key) == ("d0", "large-1", 0.9, "")
    assert made.expires_at == NOW + world.rules.admission.ttl_s
    assert np.allclose(made.vector, HashingEmbedder().vector("Who founded Skulia?"))
    assert run.report["coverage"]["n_filled"] == 1  # type: ignore[index, call-overload]


async def test_nothing_is_asked_unless_the_policy_says_so() -> None:
    """The clusters are told all the same."""
    world = world_with(fill=False)
    run = await world.round(work=COVERAGE)
    (told,) = run.report["coverage"]["clusters"]  # type: ignore[index, call-overload, misc]

    assert (told["decision_id"], told["n_requests"], told["scope"]) == ("d0", 5, "key:a")
    assert "Skulia" not in str(run.report)
    assert world.models is not None
    assert world.models.asked == []


async def test_a_second_round_fills_nothing_twice() -> None:
    """What is held already needs no teacher."""
    world = world_with()
    await world.round(work=COVERAGE)
    run = await world.round(work=COVERAGE)

    assert left_out(run) == {"held": 1}
    assert len(world.store.examples) == 1


@pytest.mark.parametrize(
    ("explanation", "reason"),
    [
        ({"request": "x" * 2000}, "cut"),
        ({"request": None}, "no_text"),
        ({"turns": 2}, "turns"),
        ({"may_keep": False}, "not_to_be_kept"),
        ({"redacted": ["answer", "request"]}, "redacted"),
        ({"partition": "somebody's system prompt"}, "no_system_prompt"),
    ],
)
async def test_what_cannot_or_must_not_be_asked_again_is_left_out(explanation: Any, reason: str) -> None:
    """And said so."""
    world = world_with(explanation=explanation)
    run = await world.round(work=COVERAGE)

    assert left_out(run) == {reason: 1}
    assert world.store.examples == {}


@pytest.mark.parametrize("kind", ["key", "team", "domain"])
async def test_scopes_of_whom_the_policy_excludes_are_left_out(kind: str) -> None:
    """Also where they were not when they asked."""
    world = world_with(admission={"exclude": {f"{kind}s": ["x"]}})
    world.store.records["d0"] = replace(world.store.records["d0"], scope=f"{kind}:x")
    run = await world.round(work=COVERAGE)

    assert left_out(run) == {"excluded": 1}
    assert world.store.examples == {}


def test_excluded_keys_are_left_out() -> None:
    """Their answers are never kept, whoever asks."""
    rules = policy_with(admission={"exclude": {"keys": ["a"]}})
    said = {"request": "Why?", "partition": PLAIN, "turns": 1, "may_keep": True}

    assert reason_to_leave(record("d0", explanation=said), rules) == "excluded"
    assert reason_to_leave(record("d0", explanation=said), policy_with()) is None
    assert reason_to_leave(None, rules) == "forgotten"


async def test_the_system_prompt_comes_from_an_example_that_has_it() -> None:
    """Its hash is what the record holds."""
    partition = partition_of("Be brief.", False)
    world = world_with(explanation={"partition": partition})
    far = HashingEmbedder().vector("something else entirely")
    world.hold([example("e1", partition=partition, system="Be brief.", vector=far)])
    await world.round(work=COVERAGE)
    assert world.models is not None

    assert world.models.asked[0].messages[0].content == "Be brief."
    assert [one.system for one in world.store.examples.values()] == ["Be brief.", "Be brief."]


async def test_in_a_scope_of_many_it_waits_in_quarantine() -> None:
    """As an answer to a caller would."""
    world = world_with(scope="team")
    world.store.records["d0"] = replace(world.store.records["d0"], scope="team:red")
    await world.round(work=COVERAGE)

    assert [one.reader for one in world.store.examples.values()] == ["a"]


async def test_late_feedback_counts() -> None:
    """Amendments replace what lessons said."""
    world = world_with(fill=False)
    world.store.learned += [amendment(f"d{i}", reward=1.0) for i in range(5)]
    run = await world.round(work=COVERAGE)

    assert [one["quality"] for one in run.report["coverage"]["clusters"]] == [1.0]  # type: ignore[index, call-overload, union-attr]


async def test_filling_keeps_within_the_budget() -> None:
    """The round ends with it."""
    world = world_with()
    run = await world.round(work=COVERAGE, seconds=0.0)

    assert run.ending == "budget"
    assert world.store.examples == {}


async def test_filling_spends_no_more_than_the_round_may() -> None:
    """But for the first answer, whose price nobody knows."""
    world = world_with()
    assert world.models is not None
    world.models.cost_usd = 0.4
    for place in range(1, 5):
        head = [0.0] * place + [1.0]
        world.store.learned += many(f"more{place}-", 5, *head)
        asked_for = {"request": f"Question {place}?", "partition": PLAIN, "turns": 1, "may_keep": True}
        world.store.records[f"more{place}-0"] = record(f"more{place}-0", scope="key:a", explanation=asked_for)
    run = await world.round(work=COVERAGE, usd=1.0)

    assert (run.ending, len(world.models.asked)) == ("budget", 2)
    assert run.cost_usd == 0.8
