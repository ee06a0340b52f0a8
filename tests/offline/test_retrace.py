from dataclasses import replace
from typing import Any

import pytest

from echo_proxy.offline.history import History, history_of, read_history
from echo_proxy.offline.retrace import earned, retrace
from echo_proxy.online.segment import segment_of
from echo_proxy.policy import Policy
from echo_proxy.types import Arm, ArmKey, Evidence, Lesson
from tests.builders import NOW, amendment, lesson, policy, request, selection, situation
from tests.builders import candidate as a_candidate
from tests.offline.traffic import fill

FIXED = {"kind": "fixed", "probabilities": {"small+0": 0.3, "large+0": 0.7}, "drift": None}
ARMS = [{"deployment": "small"}, {"deployment": "large", "teacher": True}]
KNOWN = {"small+0": Arm("small+0", "small", 0), "large+0": Arm("large+0", "large", 0)}


def rules(**bandit: Any) -> Policy:
    return policy(arms=ARMS, bandit=bandit or FIXED)


async def log_of(made: Policy, n: int = 200, **changes: Any) -> History:
    return await read_history((await fill(made, n, **changes)).store, lambda n: None)


def known(made: Policy) -> dict[str, Arm]:
    return {arm.name: arm for arm in made.to_arms()}


@pytest.mark.parametrize(
    "bandit",
    [
        FIXED,
        {"kind": "uniform", "drift": None},
        {"kind": "epsilon_greedy", "epsilon": 0.2},
        {"kind": "ucb1"},
        {"kind": "softmax"},
    ],
)
async def test_the_policy_that_logged_draws_as_it_did(bandit: dict[str, Any]) -> None:
    """To the last digit without learning; with learning up to fading, which a running worker reads from the store."""
    made = policy(bandit={**bandit, "half_life_s": 1e9})
    if bandit["kind"] == "fixed":
        made = rules()
    history = await log_of(made)

    traced = list(retrace(history, made, known(made)))

    assert len(traced) == 200
    for one in traced:
        assert one.unseen == {}
        assert [one.shares[arm] for arm in one.lesson.arms] == pytest.approx(one.lesson.pmf, abs=1e-6)


async def test_a_decision_hangs_on_the_past_alone() -> None:
    """The future may be anything."""
    made = rules(kind="epsilon_greedy")
    history = await log_of(made, 100)
    half = history_of(list(history.entries[:100]))

    all_of_it, begun = list(retrace(history, made, known(made))), list(retrace(half, made, known(made)))

    assert [one.shares for one in all_of_it[:50]] == [one.shares for one in begun]


def test_feedback_counts_from_when_it_came() -> None:
    """The second decision does not know it yet, the third does."""
    made = rules(kind="epsilon_greedy", drift=None)
    first = lesson("d1", "small+0", 1.0)
    history = history_of([first, lesson("d2"), amendment("d1", reward=0.0, arm="small+0"), lesson("d3")])

    shares = [one.shares["small+0"] for one in retrace(history, made, KNOWN)]

    assert shares[1] > 0.9 > 0.1 > shares[2]
    assert history.finals["d1"].quality == 0.0


def test_earlier_decisions_teach_without_being_judged() -> None:
    """From `since` on they are given."""
    made = rules(kind="epsilon_greedy", drift=None)
    history = history_of([lesson("d1", "small+0", 1.0), lesson("d2", "large+0", 0.0), lesson("d3", at=NOW + 9)])

    (only,) = retrace(history, made, KNOWN, since=NOW + 5)

    assert only.lesson.decision_id == "d3"
    assert only.shares["small+0"] > 0.9


def test_a_policy_learns_its_own_reward() -> None:
    """One that counts cost alone prefers the cheap arm of two that are equally good."""
    made = policy(arms=ARMS, bandit={"kind": "epsilon_greedy"}, reward={"quality_weight": 0, "cost_weight": 1})
    cheap, dear = lesson("d1", "small+0", cost_usd=0.0), lesson("d2", "large+0", cost_usd=0.009)

    *_, last = retrace(history_of([cheap, dear, lesson("d3")]), made, KNOWN)

    assert earned(cheap, made) > 0.9 > 0.2 > earned(dear, made)
    assert last.shares["small+0"] > 0.9


def test_evidence_goes_where_the_policy_s_own_bands_are() -> None:
    """A policy without bands learns from every one of the log's."""
    made = rules(kind="epsilon_greedy", segments=None, drift=None)
    banded = situation(segment="names=missing")
    seen = lesson("d1", "small+0", 1.0, situation=banded)
    seen = replace(seen, evidence=(Evidence(ArmKey("small+0", "names=missing"), 1.0, 1.0),))

    *_, last = retrace(history_of([seen, lesson("d2")]), made, KNOWN)

    assert last.shares["small+0"] > 0.9


async def test_bands_are_found_again() -> None:
    """The same rules give the label that the log has, with and without examples."""
    made = policy(bandit={"kind": "uniform"})
    history = await log_of(made, 60)

    for one in retrace(history, made, known(made)):
        assert one.lesson.situation.segment == history.finals[one.lesson.decision_id].situation.segment
    assert len({one.situation.segment for one in history.finals.values()}) > 1
    assert segment_of(request(), selection(a_candidate()), made.bandit.segments).startswith("utility=0.75-0.9")


def test_old_evidence_fades() -> None:
    """After many half-lives the prior decides again."""
    made = rules(kind="softmax", half_life_s=10.0, drift=None)
    late = lesson("d2", at=NOW + 1000)

    *_, last = retrace(history_of([lesson("d1", "small+0", 1.0), late]), made, KNOWN)

    assert last.shares["small+0"] == pytest.approx(0.5, abs=1e-3)


def test_what_is_told_twice_counts_once() -> None:
    """And a correction of something unknown is left out."""
    history = history_of([lesson("d1"), lesson("d1"), amendment("gone"), amendment("d1"), amendment("d1")])

    assert len(history.entries) == 2
    assert len(list(retrace(history, rules(), KNOWN))) == 1


# ------------------------------------------------------------------ arms


def traced(made: Policy, one: Lesson, logger: dict[str, Arm] = KNOWN) -> Any:
    (found,) = retrace(history_of([one]), made, logger)
    return found


def test_an_arm_that_the_log_does_not_have_is_unseen() -> None:
    """Its share is told by name."""
    made = policy(arms=[*ARMS, {"deployment": "huge"}], bandit={"kind": "uniform"})

    got = traced(made, lesson())

    assert got.unseen == {"huge+0": pytest.approx(1 / 3)}
    assert got.shares == {"small+0": pytest.approx(1 / 3), "large+0": pytest.approx(1 / 3)}


def test_an_arm_that_would_have_asked_the_same_is_the_same() -> None:
    """Up to four examples of one that was found is up to two of one."""
    made = policy(arms=[{"deployment": "small", "n_examples": 4}, ARMS[1]], bandit={"kind": "uniform"})
    logger = {"small+2": Arm("small+2", "small", 2), "large+0": KNOWN["large+0"]}
    one = lesson(arms=("small+2", "large+0"), situation=situation(n_chosen=1, utility=0.5))

    assert set(traced(made, one, logger).shares) == {"small+2", "large+0"}
    cut = replace(one, situation=situation(n_chosen=2, utility=0.5))
    assert set(traced(made, cut, logger).unseen) == {"small+4"}


def test_a_deployment_that_was_away_could_not_be_drawn_by_anyone() -> None:
    """The policy is judged on what was left."""
    got = traced(rules(), lesson(arms=("large+0",), pmf=(1.0,), means=(0.5,)))

    assert (got.shares, got.unseen) == ({"large+0": 1.0}, {})


def test_what_the_log_could_practically_not_draw_is_unseen() -> None:
    """A probability of 1e-9 is no chance."""
    got = traced(rules(), lesson(pmf=(1e-9, 1 - 1e-9)))

    assert got.unseen == {"small+0": pytest.approx(0.3, abs=0.01)}


def test_a_policy_of_other_deployments_alone_has_nothing_to_draw() -> None:
    """All of it is unseen."""
    made = policy(arms=[{"deployment": "huge"}], bandit={"kind": "uniform"})

    assert traced(made, lesson()).unseen == {"huge+0": 1.0}
