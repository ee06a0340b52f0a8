import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from echo_proxy.errors import PolicyError
from echo_proxy.learning.best_effort import N_TERMS, BestEffort, Network, read_values, to_json, worth
from echo_proxy.learning.knowledge import Knowledge
from echo_proxy.online.route import choose
from echo_proxy.policy import Policy
from echo_proxy.types import Adjustment, Conditions, Context, Load, Situation
from tests.builders import policy

ARMS = [{"deployment": "small", "prior_reward": 0.5}, {"deployment": "large", "prior_reward": 0.8}]


def values(**changes: Any) -> BestEffort:
    """The small arm is always in time, the large one never is; nobody harms anybody."""
    made = {
        "arms": ("small+0", "large+0"),
        "deployments": ("small", "large"),
        "ranges": {
            "load:small": (0.0, 50.0), "load:large": (0.0, 50.0), "starts_per_s": (0.0, 9.0), "deadline_s": (1.0, 40.0),
        },
        "timeliness": Network(((np.zeros((4, 2)), np.array([1.0, 0.0])),)),
        "harm": np.zeros((2, N_TERMS)),
        "trained_on": "a test",
    }  # fmt: skip
    return BestEffort(**{**made, **changes})


def by_file(path: Path, **bandit: Any) -> Policy:
    return policy(arms=ARMS, bandit={"kind": "best_effort", "file": str(path), "otherwise": "epsilon_greedy", **bandit})


def written(path: Path, found: BestEffort) -> Path:
    path.write_text(json.dumps(to_json(found)))
    return path


def chosen(rules: Policy, found: BestEffort | None, conditions: Conditions) -> Any:
    knowledge = Knowledge(rules)
    knowledge.values = found
    situation = Situation("all", Context("c", (1.0,)), None, 0.0, 0, conditions)
    return choose(rules.to_arms(), situation, rules, knowledge, 0.0)


def test_file_round_trip(tmp_path: Path) -> None:
    """What is written is read back and is worth the same."""
    generator = np.random.default_rng(1)
    layers = ((generator.normal(size=(4, 3)), generator.normal(size=3)), (generator.normal(size=(3, 2)), np.zeros(2)))
    before = values(timeliness=Network(layers), harm=generator.random((2, N_TERMS)))
    after = read_values(by_file(written(tmp_path / "v.json", before)))
    state, qualities = np.array([3.0, 7.0, 2.0, 20.0]), np.array([0.5, 0.8])

    assert after is not None
    assert after.ranges == before.ranges
    assert after.values(state, qualities).tolist() == before.values(state, qualities).tolist()


def test_other_bandits_need_no_file() -> None:
    """Nothing is read for them."""
    assert read_values(policy()) is None


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        ({"version": 2}, "version must be 1, got 2"),
        ({"arms": ["small+0"]}, "a deployment each"),
        ({"ranges": {}}, "the ranges"),
        ({"harm": [[-1.0] * N_TERMS] * 2}, "at least 0"),
        ({"harm": [[1.0]]}, "shape"),
        ({"timeliness": []}, "end in 2 outputs"),
        ({"timeliness": [{"weights": [[1.0, 1.0]], "biases": [0.0, 0.0]}]}, "fit each other"),
        ({"timeliness": [{"weights": [[float("nan")] * 2] * 4, "biases": [0.0, 0.0]}]}, "finite"),
        ({"timeliness": [1]}, "bandit.file"),
        ({"surprise": 1}, "expected the fields"),
    ],
)
def test_a_damaged_file_is_refused(damage: dict[str, Any], complaint: str, tmp_path: Path) -> None:
    """The message names the policy, the file, what was expected and what came."""
    path = tmp_path / "v.json"
    path.write_text(json.dumps({**to_json(values()), **damage}))

    with pytest.raises(PolicyError, match=complaint) as refused:
        read_values(by_file(path))
    assert f"policy test: bandit.file {path}" in str(refused.value)


@pytest.mark.parametrize("text", ["", "not JSON", "[]", "null", "{}", '{"version": 1}'])
def test_what_is_no_such_file_is_refused(text: str, tmp_path: Path) -> None:
    """Whatever stands in it."""
    path = tmp_path / "v.json"
    path.write_text(text)

    with pytest.raises(PolicyError):
        read_values(by_file(path))


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    """And it is said how to make one."""
    with pytest.raises(PolicyError, match=r"simulate --train.*No such file"):
        read_values(by_file(tmp_path / "none.json"))


def test_a_file_of_other_arms_is_refused(tmp_path: Path) -> None:
    """Arms and their deployments must be those of the policy."""
    path = written(tmp_path / "v.json", values())
    other = policy(
        arms=[{"deployment": "small"}, {"deployment": "huge", "name": "large+0"}],
        bandit={"kind": "best_effort", "file": str(path)},
    )

    with pytest.raises(PolicyError, match=r"large\+0 on huge.*got large\+0 on large"):
        read_values(other)


def test_the_file_decides_within_its_range() -> None:
    """The better arm would be late, so the other one is taken; the floor stays."""
    choice = chosen(by_file(Path("x")), values(), Conditions({"large": Load(20)}, deadline_s=10.0))

    assert choice.pmf == pytest.approx([0.99, 0.01])
    assert [one.name for one in choice.taken] == ["best_effort"]
    assert choice.notes == ()


@pytest.mark.parametrize(
    ("found", "conditions", "reason"),
    [
        (values(), Conditions({"large": Load(51)}, deadline_s=10.0), "load:large 51 is outside 0 to 50"),
        (
            values(),
            Conditions({"large": Load(1, starts_per_s=10)}, deadline_s=10.0),
            "starts_per_s 10 is outside 0 to 9",
        ),
        (values(), Conditions(deadline_s=0.5), "deadline_s 0.5 is outside 1 to 40"),
        (values(), Conditions(), "there is no deadline"),
        (None, Conditions(deadline_s=10.0), "no file is loaded"),
    ],
)
def test_outside_its_range_the_other_bandit_decides(
    found: BestEffort | None, conditions: Conditions, reason: str
) -> None:
    """With the expected rewards as they are, and the decision says why."""
    choice = chosen(by_file(Path("x")), found, conditions)

    assert choice.pmf.argmax() == 1
    assert choice.notes == (f"epsilon_greedy instead of best_effort: {reason}",)


def test_harm_grows_with_load_and_rate() -> None:
    """Whatever was learned, a busier deployment is never worth more."""
    found = values(
        harm=np.random.default_rng(2).random((2, N_TERMS)), timeliness=Network(((np.zeros((4, 2)), np.ones(2)),))
    )
    qualities = np.array([0.5, 0.8])
    worths = [found.values(np.array([n, n, n / 10, 10.0]), qualities) for n in (0.0, 1.0, 5.0, 40.0)]

    assert all((later <= earlier).all() for earlier, later in pairwise(worths))


def test_worth_is_told_as_what_is_taken() -> None:
    """Means less the penalties are the values."""
    means = np.array([0.5, 0.8])
    found = worth(policy(arms=ARMS).to_arms(), means, Conditions(deadline_s=10.0), values())

    assert isinstance(found, Adjustment)
    assert means - found.penalties == pytest.approx([0.5, 0.0])
