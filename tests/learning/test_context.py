import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from echo_proxy.learning.context import (
    FEATURES,
    N_TOPICS,
    OWN_LOAD,
    agreement,
    context_of,
    own_load,
    projection,
    topics,
)
from echo_proxy.learning.text_measures import NAMES, READ, measures
from echo_proxy.types import Conditions, Message, Selection
from echo_proxy.types import Names as NameState
from tests.builders import candidate, request, selection, vector


def features(made: Selection | None = None, deadline_s: float | None = None, text: str = "Why?") -> dict[str, float]:
    found = context_of(request(text), vector(1.0), made or Selection(), Conditions(deadline_s=deadline_s))
    return dict(zip(FEATURES, found.values, strict=True))


@given(st.text(max_size=300), st.integers(1, 400))
def test_features_are_finite_and_about_one(text: str, dimensions: int) -> None:
    """Whatever is asked, and whoever embeds it."""
    made = request(text or "?")
    embedding = np.zeros(dimensions, dtype=np.float32)
    embedding[0] = 1.0

    context = context_of(made, embedding, Selection(), Conditions())

    assert len(context.values) == len(FEATURES)
    assert np.abs(context.values).max() <= 1.5 * np.sqrt(dimensions)
    assert np.abs(context.values[: -len([n for n in FEATURES if n.startswith("topic")])]).max() <= 1.0
    assert np.isfinite(context.text).all()


def test_the_schema_says_what_was_seen() -> None:
    """Another embedding, another schema: their topics are not the same."""
    small, large = (
        context_of(request(), np.eye(1, n, dtype=np.float32)[0], Selection(), Conditions()) for n in (16, 384)
    )

    assert small.schema != large.schema


def test_the_examples_are_seen() -> None:
    """How near they are, how useful, how good and what names the best one holds."""
    near, far = candidate("a", 0.1, 0.8, quality=0.5), candidate("b", 0.4, 0.4, quality=1.0)

    seen = features(selection(near, far))

    assert seen["nearest"] == pytest.approx(0.8)
    assert seen["best_utility"] == 0.8
    assert seen["mean_utility"] == pytest.approx(0.6)
    assert seen["n_chosen"] == 0.25
    assert seen["teacher_quality"] == 0.75
    assert (seen["names_held"], seen["names_missing"]) == (0.0, 0.0)
    assert near.names is NameState.NONE


def test_answers_agree_word_for_word() -> None:
    """Case and spaces aside; one alone agrees with nobody."""
    pool = (candidate(response="It is Paris."), candidate(response="it is  paris."), candidate(response="Rome."))

    assert agreement(pool) == 0.5
    assert agreement(pool[:1]) == agreement(()) == 0.0


def test_a_deadline_is_felt_when_it_is_short() -> None:
    """None and a long one alike are no hurry."""
    assert features(deadline_s=None)["hurry"] == features(deadline_s=60.0)["hurry"] == 0.0
    assert features(deadline_s=3.0)["hurry"] == pytest.approx(0.9)
    assert features(deadline_s=-1.0)["hurry"] == 1.0


def test_what_is_not_known_of_the_arm_is_left_to_it() -> None:
    """Its load is filled in per arm, and grows towards one."""
    assert features()[FEATURES[OWN_LOAD]] == 0.0
    assert own_load(0.0) == 0.0
    assert own_load(4.0) == 0.5
    assert own_load(1e9) < 1.0 + 1e-9


def test_the_system_message_and_earlier_turns_are_seen() -> None:
    """Both are long in a long dialogue."""
    turns = (Message("user", "a"), Message("assistant", "b"), Message("user", "c"))
    made = request(system="Be brief. " * 20, dialogue=turns)

    seen = dict(zip(FEATURES, context_of(made, vector(1.0), Selection(), Conditions()).values, strict=True))

    assert seen["turns"] > 0
    assert seen["system"] > 0


def test_texts_are_told_apart() -> None:
    """Code, maths, choices and questions."""
    code, maths, choices, question = (
        dict(zip(NAMES, measures(text), strict=True))
        for text in (
            "def f(x):\n    return {x: 1}",
            r"Solve $x^2 = \frac{1}{2}$",
            "Which one?\nA. red\nB. blue\nC. green",
            "Who wrote it?",
        )
    )

    assert code["code"] == 1.0
    assert code["symbols"] > question["symbols"]
    assert maths["maths"] == 1.0
    assert maths["digits"] > 0
    assert choices["choices"] == 1.0
    assert choices["lines"] > question["lines"]
    assert question["choices"] == question["code"] == question["maths"] == 0.0
    assert question["asks_who"] == question["question"] == 1.0


def test_a_long_text_is_not_read_to_its_end() -> None:
    """Only its length counts."""
    text = "a b " * READ

    assert measures(text)[1:] == measures(text + "1?" * READ)[1:]
    assert measures(text) != measures(text + "1?" * READ)


def test_topics_of_the_bundled_embedder_come_from_its_asset() -> None:
    """Orthonormal directions that lie around the mean prompt; other dimensions get random ones, the same every time."""
    basis, offset = projection(384)
    other = projection(16)[0]

    assert basis.shape == (N_TOPICS, 384)
    assert basis @ basis.T == pytest.approx(np.eye(N_TOPICS), abs=1e-5)
    assert np.abs(offset).max() > 0
    assert topics(np.zeros(384, dtype=np.float32)) == pytest.approx(-offset)
    assert other.shape == (N_TOPICS, 16)
    assert np.linalg.norm(other @ np.eye(16)[0]) == pytest.approx(0.6, abs=1e-6)


def test_finer_features_of_the_words_are_left_out_where_nobody_reads_them() -> None:
    """They take as long as all others; these are the same without them."""
    both = [
        context_of(request("How many?"), vector(1.0), Selection(), Conditions(), with_text=one) for one in (False, True)
    ]

    assert both[0].text == ()
    assert both[1].text
    assert both[0].values == both[1].values
