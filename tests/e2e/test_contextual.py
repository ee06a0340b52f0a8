"""The contextual bandits in the real proxy: every line of policy at once."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.proxy import Proxy, Upstream, config_for, policy_for, wait_for
from tests.e2e.test_path import chat, decision, question

LINES: dict[str, Any] = {
    "load": {"threshold": 2.0},
    "deadline": {"answer_s": 20.0},
    "budget": {"usd_per_1000_requests": 0.001},
    "stickiness": {"switch_cost": 0.05},
}


@pytest.fixture(scope="module", params=["linear", "regression"])
def contextual(
    request: pytest.FixtureRequest, upstream: Upstream, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Proxy]:
    """Linear Thompson on either regression, with a budget that no answer fits into."""
    bandit = {"kind": "linear_thompson", "estimate": {"kind": request.param}, "floor": 0.05}
    rules = policy_for(bandit=bandit, **LINES)
    process = Proxy(tmp_path_factory.mktemp("contextual"), config_for(upstream), {"test": rules})
    process.start()
    yield process
    process.stop()


def test_it_learns_from_feedback_and_explains_itself(contextual: Proxy) -> None:
    """A price on cost sends most requests to the cheap arm, whose answers are liked: more is expected of it than at the
    start (0.5), the price stands in the record, and nothing was bypassed."""
    with contextual.client() as client:
        for _ in range(30):
            made = decision(client, chat(client, question()))
            client.post("/echo/feedback", json={"decision_id": made["id"], "score": 1.0}).raise_for_status()

        def learned() -> Any:
            found = decision(client, chat(client, question()))["explanation"]["decision"]
            return found if found["arms"]["small+0"]["mean_reward"] > 0.7 and "budget" in found["taken"] else None

        found = wait_for(learned, timeout_s=30.0, what="feedback that was learned from")
        counts = client.get("/echo/stats").json()["test"]["counts"]

    assert found["taken"]["budget"]["why"].startswith("price of cost")
    assert not [name for name in counts if name.startswith("bypass:") or name in ("fit_failed", "learning_failed")]
