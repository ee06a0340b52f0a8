"""What becomes of a stored answer that a judge found right for other words."""

from dataclasses import replace
from typing import Any

import pytest

from echo_proxy.online.promote import Promotion, original_of, owner_mark, owner_of, promoted_id, promotion
from echo_proxy.online.sample import same_call
from echo_proxy.policy import Policy
from echo_proxy.types import Caller, Message, Observation, Plan, Replayed, Request, StoredAnswer
from tests.builders import LARGE, NOW, SMALL, example, outcome, plan, policy, request, served, vector

TEXT = "Which town is the capital of France?"
ASKER = Caller(key="b")
RULES = policy()


def asked(text: str = TEXT, **changes: Any) -> Request:
    """A near miss of another key in the same team, which may be answered from the store."""
    return request(text, **{"caller": ASKER, "answer_key": "k2", "scope": "team:t", **changes})


def stored(**changes: Any) -> StoredAnswer:
    """What key a was answered some time ago."""
    made = example(**{"scope": "team:t", "answer_key": "k", "created_at": NOW - 500, "version": 3, **changes})
    return StoredAnswer(made, 0.1, 1.0, is_served=False, why="")


def planned(**changes: Any) -> Plan:
    """The plan for the near miss."""
    return plan(**{"request": asked(), "vector": vector(0.9, 0.1), **changes})


def promoted(made: Plan | None = None, answer: StoredAnswer | None = None, rules: Policy = RULES) -> Promotion | None:
    """What comes of it."""
    return promotion(made or planned(), answer or stored(), rules)


def test_it_is_the_asker_s_with_the_stored_answer() -> None:
    """Words, key, writer and decision are the new ones; answer, teacher, quality and age are the old one's, and nothing
    that was counted or observed of that."""
    seen = (Observation(0.1, True, NOW),)
    answer = stored(quality=0.8, uses=3.0, observations=seen, history=(Replayed(NOW, "large", 1, False, 0.5),))

    made = promoted(answer=answer)

    assert made is not None
    one = made.example
    assert (one.request, one.answer_key, one.writer, one.decision_id) == (TEXT, "k2", "b", "d1")
    assert (one.response, one.teacher, one.quality, one.created_at) == ("Paris.", "large", 0.8, NOW - 500)
    assert (one.expires_at, one.origin, one.version) == (answer.example.expires_at, "promoted", 1)
    assert (one.uses, one.observations, one.history, one.counted_at) == (0.0, (), (), NOW)
    assert (made.original_id, made.version, made.asked) == ("e1", 3, TEXT)
    assert one.vector.tolist() == vector(0.9, 0.1).tolist()


@pytest.mark.parametrize(
    "changes",
    [
        {"is_unkept": True},
        {"caller": Caller(key="b", is_unkept=True)},
        {"caller": Caller(key="noted")},
        {"caller": Caller(key="b", team="secret")},
        {"answer_key": ""},
        {"scope": "team:other"},
        {"partition": "other"},
        {"dialogue": (Message("user", "Hi"), Message("assistant", "Hello."), Message("user", TEXT))},
        {"dialogue": (Message("user", "What is the capital of France? "),)},
        {"dialogue": (Message("user", "why " * 3000),)},
    ],
)
def test_what_must_not_be_kept_is_not(changes: dict[str, Any]) -> None:
    """By the asker's word or the operator's, without a key, from another scope, after other turns, the same words
    again, or too long."""
    rules = policy(admission={"exclude": {"keys": ["noted"], "teams": ["secret"]}})

    assert promoted(rules=rules) is not None
    assert promoted(planned(request=asked(**changes)), rules=rules) is None


def test_nothing_from_quarantine() -> None:
    """Not even of the asker's own: nobody has vouched for it."""
    assert promoted(answer=stored(reader="b")) is None


def test_nothing_where_nothing_is_kept() -> None:
    """Admission is off, or there is no vector."""
    assert promoted(rules=policy(admission={"enabled": False})) is None
    assert promoted(planned(vector=None)) is None


def test_its_id_tells_what_it_is() -> None:
    """The same for the same words of a key, another for others; of a promoted one the first original's."""
    first = stored().example
    once, again, other = (promoted_id(first, asked(text)) for text in (TEXT, f"{TEXT} ", "Another?"))
    second = replace(first, id=once, writer="b")

    assert once == again != other
    assert promoted_id(first, asked(caller=Caller(key="c"))) != once
    assert (original_of(once), owner_of(once)) == ("e1", owner_mark("a"))
    further = promoted_id(second, asked(caller=Caller(key="c")))
    assert (original_of(further), owner_of(further)) == ("e1", owner_mark("a"))
    assert (original_of("e1"), owner_of("e1")) == ("", "")


def test_only_near_misses_that_no_teacher_answered() -> None:
    """A teacher's own answer is kept itself."""
    rules = policy(judge={"sampled": {"model_group": "judge", "rate": 0}}, answers={"near_miss_rate": 1.0})
    long = stored(response="The capital of France is Paris, which lies on the Seine, as everybody knows.")
    other = "It is Paris, on the Seine, where the government of France has its seat."

    small = same_call(planned(answer=long), outcome(other, [served(SMALL)]), rules)
    large = same_call(planned(answer=long), outcome(other, [served(LARGE)]), rules)

    assert small is not None
    assert large is not None
    assert (small.promotes is not None, large.promotes) == (True, None)
