from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from echo_proxy.check import check
from echo_proxy.errors import PolicyError

POLICY = """\
name: mine
match: {model_groups: [auto]}
arms:
  - {deployment: small, n_examples: 2, prior_reward: 0.25}
  - {deployment: large, teacher: true}
bandit: {kind: ucb1}
"""
CONFIG = """\
model_list:
  - {model_name: auto, litellm_params: {model: openai/s}, model_info: {id: small}}
  - {model_name: auto, litellm_params: {model: openai/l}, model_info: {id: large}}
"""


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    path = tmp_path / "p.yaml"
    path.write_text(POLICY)
    return path


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "litellm.yaml"
    path.write_text(CONFIG)
    return path


def printed(places: list[Path], config: Path | None = None) -> str:
    out = StringIO()
    assert check(places, config, Console(file=out, width=200)) == 0
    return out.getvalue()


def test_a_policy_is_told_in_words(rules: Path) -> None:
    """What it serves, each arm, and what happens otherwise."""
    text = printed([rules])

    assert "mine - serves auto; decides and acts; bandit ucb1; examples shared by key" in text
    assert "otherwise LiteLLM chooses" in text
    assert "0.25, worth 2 answers" in text
    assert "ok: 1 policy" in text


def test_with_a_config_each_arm_s_deployment_is_found(rules: Path, config: Path) -> None:
    """And the missing callback line is told, because plain litellm needs it."""
    text = printed([rules], config)

    assert "openai/s" in text
    assert "openai/l" in text
    assert "note: litellm_settings.callbacks lacks echo_proxy.litellm.hooks.callback" in text


def test_a_complete_config_needs_no_note(rules: Path, config: Path) -> None:
    """Nothing is missing."""
    config.write_text(CONFIG + "litellm_settings: {callbacks: [echo_proxy.litellm.hooks.callback]}\n")

    assert "note:" not in printed([rules], config)


def test_deployments_of_the_database_cannot_be_found(rules: Path, config: Path) -> None:
    """That is said instead of refused."""
    config.write_text("model_list: []\ngeneral_settings: {store_model_in_db: true}\n")

    assert printed([rules], config).count("not in the file (may be in the database)") == 2


def test_a_policy_that_does_not_fit_is_refused(rules: Path, config: Path) -> None:
    """With the field and the nearest name."""
    rules.write_text(POLICY.replace("deployment: small", "deployment: smal"))

    with pytest.raises(PolicyError, match=r"arms\.0\.deployment: .* got 'smal'; did you mean 'small'\?"):
        check([rules], config)


def test_privacy_rules_that_cannot_be_applied_are_refused(rules: Path) -> None:
    """A proxy with them would keep nothing."""
    rules.write_text(POLICY + "admission: {privacy: {presidio: {model: en_core_web_none}}}\n")

    with pytest.raises(PolicyError, match=r"policy mine: admission\.privacy\.presidio\.model: expected an installed"):
        printed([rules])
