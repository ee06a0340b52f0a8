from typing import Any

import pytest

from echo_proxy.litellm.second_chance import give_second_chance

AGAIN = {"model": "auto", "_excluded_deployment_ids": []}


@pytest.mark.parametrize(
    ("configured", "expected"),
    [
        (None, [AGAIN]),
        ([], [AGAIN]),
        ([{"auto": ["cloud"]}], [AGAIN, "cloud"]),
        ([{"other": ["cloud"]}], [AGAIN]),
        ([{"other": ["cloud"]}, {"*": ["any"]}], [AGAIN, "any"]),
        ([{"auto": ["cloud"]}, {"*": ["any"]}], [AGAIN, "cloud"]),
        ("nonsense", [AGAIN]),
        ([{"auto": "nonsense"}], [AGAIN]),
    ],
)
def test_the_group_itself_goes_before_what_is_configured(configured: Any, expected: list[Any]) -> None:
    """The operator's fallbacks stay, looked up as LiteLLM does."""
    data: dict[str, Any] = {"model": "auto", "stream": True}

    assert give_second_chance(data, "acompletion", configured)
    assert data["fallbacks"] == [{"auto": expected}]


@pytest.mark.parametrize(
    ("changes", "call_type"),
    [
        ({"stream": False}, "acompletion"),
        ({"stream": None}, "acompletion"),
        ({"fallbacks": []}, "acompletion"),
        ({"disable_fallbacks": True}, "acompletion"),
        ({}, "aresponses"),
        ({}, "anthropic_messages"),
    ],
)
def test_other_calls_stay_as_they_are(changes: dict[str, Any], call_type: str) -> None:
    """Calls that are not streamed are retried anyway; a caller's wishes go before ours."""
    data = {"model": "auto", "stream": True, **changes}
    before = dict(data)

    assert not give_second_chance(data, call_type, None)
    assert data == before
