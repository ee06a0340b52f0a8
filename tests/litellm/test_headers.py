from dataclasses import replace

from echo_proxy.litellm.flights import Serving
from echo_proxy.litellm.headers import plan_headers, serving_headers
from tests.builders import decision, plan, plan_with_example


def test_a_model_s_answer_names_its_arm() -> None:
    """In shadow mode the one that it would be; feedback is invited where it would teach much."""
    asked = plan(decision=decision(invites_feedback=True))

    assert plan_headers(asked) == {
        "x-echo-feedback": "welcome",
        "x-echo-decision-id": "d1",
        "x-echo-policy": "test",
        "x-echo-arm": "large+0",
        "x-echo-examples": "0",
    }
    assert plan_headers(replace(asked, is_shadow=True)) == {
        "x-echo-decision-id": "d1",
        "x-echo-policy": "test",
        "x-echo-would-be-arm": "large+0",
        "x-echo-examples": "0",
    }
    assert plan_headers(plan_with_example())["x-echo-examples"] == "1"


def test_an_answer_without_a_model_names_its_example() -> None:
    """One that is shared has none."""
    expected = {
        "x-echo-decision-id": "d1",
        "x-echo-policy": "test",
        "x-echo-arm": "none",
        "x-echo-examples": "0",
        "x-echo-answer": "shared",
        "x-echo-answer-age-s": "0",
    }
    stored = {"x-echo-answer": "stored", "x-echo-answer-age-s": "8", "x-echo-example-id": "e1"}

    assert serving_headers(plan(), Serving("Paris.", "shared")) == expected
    assert serving_headers(plan_with_example(), Serving("Paris.", "stored", "e1", 7.6)) == expected | stored
