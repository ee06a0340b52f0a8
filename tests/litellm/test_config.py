"""What a LiteLLM config says, and whether a policy fits it."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from echo_proxy.errors import PolicyError, SettingsError
from echo_proxy.litellm.config import CALLBACK, check_policy, read_litellm_config
from tests.builders import policy


def item(group: str, deployment_id: str | None, model: str = "openai/x") -> dict[str, Any]:
    info = {"model_info": {"id": deployment_id}} if deployment_id else {}
    return {"model_name": group, "litellm_params": {"model": model}, **info}


FITTING = [item("auto", "small"), item("auto", None, "large"), item("other", "elsewhere")]


def write(folder: Path, name: str = "config.yaml", **content: Any) -> Path:
    path = folder / name
    path.write_text(yaml.safe_dump(content))
    return path


def test_a_config_is_read(tmp_path: Path) -> None:
    """Deployments by id and model, callbacks, providers."""
    path = write(
        tmp_path,
        model_list=[item("auto", "small", "llama_cpp/small"), item("auto", None, "openai/large")],
        litellm_settings={"callbacks": [CALLBACK], "custom_provider_map": [{"provider": "llama_cpp"}]},
    )

    made = read_litellm_config(path)

    assert [(one.model_group, one.names) for one in made.deployments] == [
        ("auto", {"small", "llama_cpp/small"}),
        ("auto", {"openai/large"}),
    ]
    assert (made.has_callback, made.has_provider, made.uses_provider) == (True, True, True)
    assert made.database_may_add_models is False


def test_an_empty_config_has_nothing(tmp_path: Path) -> None:
    """Sections may be missing or empty."""
    made = read_litellm_config(write(tmp_path, model_list=None, litellm_settings=None))

    assert (made.deployments, made.callbacks, made.providers) == ((), (), ())
    assert (made.has_callback, made.has_provider, made.uses_provider) == (False, False, False)


def test_a_single_callback_may_stand_without_a_list(tmp_path: Path) -> None:
    """LiteLLM takes both."""
    made = read_litellm_config(write(tmp_path, litellm_settings={"callbacks": CALLBACK}))

    assert made.callbacks == (CALLBACK,)


def test_included_files_add_deployments(tmp_path: Path) -> None:
    """Relative to the file that includes them."""
    write(tmp_path, "more.yaml", model_list=[item("auto", "large")])
    path = write(tmp_path, include=["more.yaml"], model_list=[item("auto", "small")])

    assert [one.id for one in read_litellm_config(path).deployments] == ["small", "large"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", "expected YAML, got"),
        ("- a", "expected a mapping with model_list, got list"),
        ("", "expected a mapping with model_list, got NoneType"),
        ("model_list: words", "model_list: expected a list of mappings, got 'words'"),
        ("model_list: [words]", "model_list: expected a list of mappings, got"),
        ("litellm_settings: [a]", "litellm_settings: expected a mapping, got list"),
        ("general_settings: a", "general_settings: expected a mapping, got str"),
        ("include: [nowhere.yaml]", "nowhere.yaml: expected a readable LiteLLM config, got No such file"),
    ],
)
def test_a_broken_config_is_told(tmp_path: Path, text: str, message: str) -> None:
    """With the file's name."""
    path = tmp_path / "config.yaml"
    path.write_text(text)

    with pytest.raises(SettingsError) as caught:
        read_litellm_config(path)

    assert str(tmp_path) in str(caught.value)
    assert message in str(caught.value)


def test_a_policy_that_fits_is_accepted(tmp_path: Path) -> None:
    """Deployments may be named by id or by model."""
    check_policy(policy(default_deployment="large"), read_litellm_config(write(tmp_path, model_list=FITTING)))


@pytest.mark.parametrize(
    ("changes", "field", "hint"),
    [
        ({"match": {"model_groups": ["auti"]}}, "match.model_groups", "got 'auti'; did you mean 'auto'?"),
        ({"arms": [{"deployment": "smal"}]}, "arms.0.deployment", "got 'smal'; did you mean 'small'?"),
        (
            {"arms": [{"deployment": "elsewhere"}]},
            "arms.0.deployment",
            "got 'elsewhere'; it has large, openai/x, small",
        ),
        ({"default_deployment": "elsewhere"}, "default_deployment", "got 'elsewhere'; it has large, openai/x, small"),
    ],
)
def test_a_policy_that_does_not_fit_is_refused(tmp_path: Path, changes: dict[str, Any], field: str, hint: str) -> None:
    """Field, expected, got and the nearest name; a deployment of another group does not count."""
    config = read_litellm_config(write(tmp_path, model_list=FITTING))

    with pytest.raises(PolicyError) as caught:
        check_policy(policy(**changes), config)

    assert str(caught.value).startswith(f"policy test: {field}: expected ")
    assert str(caught.value).endswith(hint)


def test_deployments_may_come_from_the_database(tmp_path: Path) -> None:
    """An unknown name is no mistake then."""
    config = read_litellm_config(write(tmp_path, model_list=[], general_settings={"store_model_in_db": True}))

    check_policy(policy(), config)
