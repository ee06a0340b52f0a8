import pytest

from echo_proxy.online.measure import measure
from tests.builders import NOW, answer, served


def test_times_are_differences() -> None:
    """Time to the first token and in all; everything else is passed on."""
    made = measure(answer(), (served(),))

    assert (made.time_to_first_token_s, made.latency_s) == (1.0, 2.0)
    assert (made.prompt_tokens, made.completion_tokens, made.cost_usd) == (20, 5, 0.001)
    assert (made.deployment_id, made.text, made.attempts) == ("large-1", "Paris.", (served(),))


def test_clocks_that_disagree_give_no_negative_time() -> None:
    """Times come from several places."""
    made = measure(answer(first_token_at=NOW - 1, ended_at=NOW - 1), ())

    assert (made.time_to_first_token_s, made.latency_s) == (0.0, 0.0)


def test_without_a_first_token_its_time_is_unknown() -> None:
    """Unknown is not zero."""
    assert measure(answer(first_token_at=None), ()).time_to_first_token_s is None


@pytest.mark.parametrize(
    ("changes", "is_whole"),
    [
        ({}, True),
        ({"finish_reason": "end_turn"}, True),
        ({"finish_reason": "completed"}, True),
        ({"finish_reason": "length"}, False),
        ({"finish_reason": "tool_calls"}, False),
        ({"finish_reason": "content_filter"}, False),
        ({"finish_reason": ""}, False),
        ({"was_read_to_end": False}, False),
        ({"error": "Timeout"}, False),
    ],
)
def test_only_an_answer_that_ended_by_itself_is_whole(changes: dict[str, object], is_whole: bool) -> None:
    """And was read to its end, and is no error; an unknown reason is no proof."""
    assert measure(answer(**changes), ()).is_whole == is_whole
