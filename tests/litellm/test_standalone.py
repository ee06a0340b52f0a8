"""The models of a config, asked outside the proxy."""

import os
from pathlib import Path
from typing import Any

import litellm
import pytest
import yaml

from echo_proxy.clock import SystemClock
from echo_proxy.errors import AskError, SettingsError
from echo_proxy.litellm.config import read_litellm_config
from echo_proxy.litellm.standalone import standalone_models
from echo_proxy.online.sample import Ask
from echo_proxy.settings import Settings
from echo_proxy.types import Message, Prompt

ECHOING = """
from litellm import CustomLLM, ModelResponse

class Echoing(CustomLLM):
    async def acompletion(self, *args, model_response, messages, **kwargs):
        model_response.choices[0].message.content = messages[-1]["content"].upper()
        return model_response

handler = Echoing()
"""


def ask(group: str = "auto", deployment: str = "large") -> Ask:
    return Ask(group, deployment, (Message("user", "hello"),), Prompt())


def deployment(name: str, **params: Any) -> dict[str, Any]:
    given = {"model": f"openai/{name}", "api_key": "none", "mock_response": f"from {name}", **params}
    return {"model_name": "auto", "litellm_params": given, "model_info": {"id": name}}


def config_in(folder: Path, *deployments: dict[str, Any], **more: Any) -> Any:
    path = folder / "litellm.yaml"
    path.write_text(yaml.safe_dump({"model_list": list(deployments), **more}))
    return read_litellm_config(path)


async def answer(config: Any, folder: Path, asked: Ask) -> str:
    async with standalone_models(config, Settings(state_dir=folder), SystemClock()) as models:
        return (await models.ask(asked)).text


@pytest.mark.parametrize("name", ["small", "large"])
async def test_the_named_deployment_answers(tmp_path: Path, name: str) -> None:
    """Whatever else the group has."""
    config = config_in(tmp_path, *(deployment(one) for one in ("small", "large", "other")))

    assert [await answer(config, tmp_path, ask("auto", name)) for _ in range(5)] == [f"from {name}"] * 5


async def test_an_alias_is_followed(tmp_path: Path) -> None:
    """As in the proxy."""
    config = config_in(tmp_path, deployment("large"), router_settings={"model_group_alias": {"best": "auto"}})

    assert await answer(config, tmp_path, ask("best")) == "from large"


@pytest.mark.parametrize("asked", [ask("unknown"), ask("auto", "unknown")])
async def test_what_the_config_does_not_have_gives_no_answer(tmp_path: Path, asked: Ask) -> None:
    """Nobody else answers in its place."""
    with pytest.raises(AskError):
        await answer(config_in(tmp_path, deployment("large")), tmp_path, asked)


async def test_references_to_the_environment_are_resolved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those in deployments, and the config's own variables, which may refer to others."""
    monkeypatch.setenv("FIRST", "from the environment")
    monkeypatch.delenv("SECOND", raising=False)
    monkeypatch.setenv("SECOND", "")
    config = config_in(
        tmp_path,
        deployment("large", mock_response="os.environ/SECOND"),
        environment_variables={"SECOND": "os.environ/FIRST", "THIRD": 3},
    )
    monkeypatch.setenv("THIRD", "")

    assert await answer(config, tmp_path, ask()) == "from the environment"
    assert os.environ["THIRD"] == "3"


async def test_an_operators_own_provider_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Found beside the config, as the proxy finds it."""
    monkeypatch.setattr(litellm, "custom_provider_map", [])
    (tmp_path / "echoing.py").write_text(ECHOING)
    one = {"model_name": "auto", "litellm_params": {"model": "shout/large"}, "model_info": {"id": "large"}}
    settings = {"custom_provider_map": [{"provider": "shout", "custom_handler": "echoing.handler"}]}
    config = config_in(tmp_path, one, litellm_settings=settings)

    assert await answer(config, tmp_path, ask()) == "HELLO"


async def test_nothing_is_left_behind(tmp_path: Path) -> None:
    """The next router of this process is LiteLLM's own again."""
    before = list(litellm.callbacks)
    await answer(config_in(tmp_path, deployment("large")), tmp_path, ask())

    assert litellm.callbacks == before


async def test_a_config_that_litellm_refuses_is_said(tmp_path: Path) -> None:
    """Without its words, which may hold keys."""
    with pytest.raises(SettingsError, match="model_list: LiteLLM refuses it"):
        await answer(config_in(tmp_path, {"model_name": "auto", "litellm_params": {}}), tmp_path, ask())
