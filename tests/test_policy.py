from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from echo_proxy.policy import Policy
from echo_proxy.types import Arm
from tests.builders import POLICY_DATA, policy


def test_a_short_policy_is_enough() -> None:
    """Name, groups, arms and bandit; the safe choices are the defaults."""
    made = policy()

    assert (made.mode, made.scope, made.allow_client_opt_out) == ("act", "key", True)
    assert made.to_arms() == (
        Arm("small+0", "small", 0),
        Arm("small+2", "small", 2),
        Arm("large+0", "large", 0, is_teacher=True),
    )
    assert made.deployments() == {"small", "large"}


def test_an_arm_may_have_a_name_and_a_prior_of_its_own() -> None:
    """Its deployment counts as one of the policy's, as does the default."""
    made = policy(arms=[{"name": "cheap", "deployment": "a", "prior_reward": 0.3}], default_deployment="b")

    assert made.to_arms() == (Arm("cheap", "a", 0, prior_reward=0.3),)
    assert made.deployments() == {"a", "b"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"arms": []}, "at least 1 item"),
        ({"arms": [{"deployment": "a"}, {"deployment": "a"}]}, r"different names, got a\+0 more than once"),
        ({"match": {"model_groups": []}}, "at least 1 item"),
        ({"name": "With Space"}, "should match pattern"),
        ({"bandit": {"kind": "ucb1", "floor": 0}}, "greater than 0"),
        ({"bandit": {"kind": "thompson"}}, "does not match any of the expected tags"),
        ({"bandit": {"kind": "ucb1", "epsilon": 0.1}}, "Extra inputs are not permitted"),
        ({"bandit": {"kind": "fixed", "probabilities": {"large+0": 0.4}}}, "must sum to 1, got 0.4"),
        ({"bandit": {"kind": "fixed", "probabilities": {"huge+0": 1.0}}}, r"got unknown huge\+0"),
        (
            {"arms": [{"deployment": f"d{i}"} for i in range(6)], "bandit": {"kind": "uniform", "floor": 0.2}},
            r"0.2 \* 6",
        ),
        ({"bandit": {"kind": "uniform", "segments": {"utility_edges": [0.5, 0.5]}}}, "must ascend without repeats"),
        ({"reward": {"quality_weight": 0, "cost_weight": 0, "latency_weight": 0}}, "at least one of quality_weight"),
        ({"retrieval": {"k": 2.0}}, "valid integer"),
        ({"retrieval": {"max_distance": 2.5}}, "less than or equal to 2"),
        ({"selection": {"min_utility": float("nan")}}, "finite number"),
        ({"budget": {"usd_per_day": float("inf")}}, "finite number"),
        ({"judge": {"max_repetition": 0.5, "sampled": {"model_group": "j", "usd_per_day": float("inf")}}}, "finite"),
        (
            {"judge": {"sampled": {"model_group": "j"}}, "arms": [{"deployment": "a"}]},
            "expected an arm with teacher: true, or judge.sampled.reference_group",
        ),
        ({"shadow": {}, "arms": [{"deployment": "a"}, {"deployment": "a", "n_examples": 2}]}, "got a alone"),
        ({"load": {"thresholds": {"smal": 4.0}}}, r"must name deployments of arms \(large, small\), got unknown smal"),
        ({"judge": {"min_tokens": 20, "max_tokens": 10}}, "min_tokens must be at most max_tokens, got 20 and 10"),
        ({"selection": {"thresholds": [0.2, 0.4, 0.2]}}, "thresholds must be different"),
        *(
            ({"solicit": {}, "bandit": {"kind": kind}}, f"solicit would never ask: {kind} gives one arm")
            for kind in ("epsilon_greedy", "ucb1", "discounted_ucb", "linucb")
        ),
        ({"solicit": {}, "bandit": {"kind": "fixed", "probabilities": {"small+0": 1.0}}}, "solicit would never ask"),
        ({"priority": {"default": 101}}, "less than or equal to 100"),
        ({"prompt": {"backbone": 2}}, "expected less than the 2 examples of the arm that takes most, got 2"),
        ({"prompt": {"order": "fixed"}}, "'best_last', 'best_first' or 'stable'"),
        ({"scope": "everybody"}, "'key', 'user', 'team', 'organization', 'domain' or 'public'"),
        ({"mode": "on"}, "'act' or 'shadow'"),
        ({"judge": {"refusals": [""]}}, "at least 1 character"),
        ({"scope": "team", "sharing": {"scopes": ["public", "user"]}}, r"wider than scope \(team\), got user"),
        ({"sharing": {"scopes": []}}, "at least 1 item"),
        ({"admission": {"exclude": {"models": ["nope"]}}}, r"deployments of arms \(large, small\), got unknown nope"),
        ({"admission": {"exclude": {"models": ["large"]}}}, "leaves no teacher whose answers are kept"),
        ({"sharing": {"scopes": ["team"]}, "admission": {"enabled": False}}, "expected admission.enabled: true"),
        ({"upkeep": {"coverage": {"fill": True}}, "log": {"texts": False}}, "expected log.texts: true, got false"),
        ({"answers": {"max_distance": 0.9}}, r"at most retrieval.max_distance \(0.5\)"),
        ({"answers": {"near_miss_rate": 0.5}}, "expected judge.sampled beside it"),
        ({"answers": {}, "arms": [{"deployment": "small"}]}, "expected an arm with teacher: true, got none"),
        ({"answers": {"min_observations": 5}}, "greater than or equal to 6"),
        ({"upkeep": {"every_s": 10, "seconds_per_round": 200}}, "at most ten times every_s, got 200 and 10"),
        ({"deadline_s": "0.1"}, "valid number"),
        ({"allow_client_opt_out": "no"}, "valid boolean"),
    ],
)
def test_a_wrong_policy_is_refused(changes: dict[str, Any], message: str) -> None:
    """Never replaced by a default, never coerced."""
    with pytest.raises(ValidationError, match=message):
        policy(**changes)


def test_segments_can_be_switched_off_by_null() -> None:
    """One average per arm."""
    assert policy(bandit={"kind": "uniform", "segments": None}).bandit.segments is None


def test_a_policy_does_not_change() -> None:
    """A reload makes a new one."""
    made = policy()

    with pytest.raises(ValidationError, match="frozen"):
        made.mode = "shadow"  # type: ignore[misc]


def models(model: type[BaseModel]) -> dict[str, dict[str, Any]]:
    schema = model.model_json_schema()
    return {"Policy": schema, **schema["$defs"]}


def test_every_key_is_documented() -> None:
    """In the schema that editors show; `kind` names itself."""
    plain = {"kind", "prior", "match", "retrieval", "selection", "utility", "prompt", "judge", "admission", "log"}
    undocumented = [
        f"{name}.{key}"
        for name, model in models(Policy).items()
        for key, field in model.get("properties", {}).items()
        if "description" not in field and key not in plain | {"bandit", "reward"}
    ]

    assert undocumented == []


def test_the_data_of_the_builder_is_valid() -> None:
    """Tests build on it."""
    assert Policy.model_validate(dict(POLICY_DATA)) == policy()


@pytest.mark.parametrize(
    "changes",
    [
        {"judge": {"sampled": {"model_group": "j", "reference_group": "r"}}, "arms": [{"deployment": "a"}]},
        {"load": {"thresholds": {"small": 4.0}}},
        {"prompt": {"backbone": 1, "order": "stable"}},
        {"solicit": {"below": 1.0}, "bandit": {"kind": "epsilon_greedy"}},
        {"solicit": {}, "bandit": {"kind": "uniform"}},
        {"solicit": {}, "bandit": {"kind": "beta_thompson"}},
        {"solicit": {}, "bandit": {"kind": "fixed", "probabilities": {"small+0": 0.4, "small+2": 0.3, "large+0": 0.3}}},
    ],
)
def test_lines_that_can_work_are_accepted(changes: dict[str, Any]) -> None:
    """Only those that could never do anything are refused."""
    assert policy(**changes)
