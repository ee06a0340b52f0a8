"""Calls beside the path in the real proxy."""

from collections.abc import Iterator

import pytest

from tests.e2e.proxy import ALWAYS_LARGE, Proxy, Upstream, config_for, policy_for, wait_for
from tests.e2e.test_path import chat, decision, question


@pytest.fixture(scope="module")
def watched(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """Every answer of the small model is judged, every request gets a second answer."""
    rules = policy_for(
        bandit={**ALWAYS_LARGE, "probabilities": {"small+0": 1.0}},
        judge={"sampled": {"model_group": "solo", "rate": 1.0}},
        shadow={"rate": 1.0},
        solicit={"below": 1.0},
    )
    process = Proxy(tmp_path_factory.mktemp("watched"), config_for(upstream), {"test": rules})
    process.start()
    yield process
    process.stop()


def test_a_second_arm_and_a_judge_are_asked(watched: Proxy, upstream: Upstream) -> None:
    """By LiteLLM's own router; their calls are no requests of ours, and the caller sees nothing of them."""
    with watched.client() as client:
        upstream.take_asked()
        response = chat(client, question())
        made = decision(client, response)

        def heard() -> object:
            found = client.get(f"/echo/decisions/{made['id']}").json()
            return found if "shadow_agreement" in found["explanation"]["signals"] else None

        record = wait_for(heard, what="second answer")
        stats = wait_for(lambda: _judged(client.get("/echo/stats").json()), what="judge")
        asked = [one["model"] for one in upstream.take_asked()]

        assert response.headers["x-echo-feedback"] == "welcome"
        assert record["explanation"]["decision"]["invites_feedback"] is True
        assert sorted(asked) == ["large", "large", "large", "small"]
        assert len(client.get("/echo/decisions").json()) == 1
        assert "judge_cost_usd" in str(stats)


def _judged(stats: object) -> object:
    """The scripted judge gives no verdict."""
    return stats if "judge_no_verdict" in str(stats) else None
