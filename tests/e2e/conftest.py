from collections.abc import Iterator

import pytest

from tests.e2e.proxy import Proxy, Upstream, config_for, policy_for


@pytest.fixture(scope="session", autouse=True)
def patience() -> Iterator[None]:
    """A busy disk makes Redis pause for seconds, and no test of what is served is about that."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ECHO_STORE_TIMEOUT_S", "20")
        yield


@pytest.fixture(scope="session")
def upstream(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Upstream]:
    process = Upstream(tmp_path_factory.mktemp("upstream"), word_s=0.005)
    process.start()
    yield process
    process.stop()


@pytest.fixture(scope="session")
def proxy(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """One worker; the policy is greedy, so that it teaches first and then uses what it has learned."""
    folder = tmp_path_factory.mktemp("proxy")
    process = Proxy(folder, config_for(upstream), {"test": greedy_policy()})
    process.start()
    yield process
    process.stop()


def greedy_policy(**more: object) -> dict[str, object]:
    """Asks the teacher without examples, the small model as soon as a good example is there; hardly learns."""
    return policy_for(
        bandit={"kind": "epsilon_greedy", "epsilon": 0.0, "floor": 1e-9, "prior": {"reward": 0.1, "weight": 1000.0}},
        **more,
    )
