"""The local models under the names by which arms know them, over a fleet whose processes are never started."""

from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from echo_proxy.check import check
from echo_proxy.engine.work import EngineStatus
from echo_proxy.errors import LocalModelError
from echo_proxy.litellm.config import ConfiguredDeployment
from echo_proxy.litellm.local import LocalModels
from echo_proxy.local.fleet import Fleet
from echo_proxy.local.health import ModelHealth
from echo_proxy.local.options import parse_model
from echo_proxy.types import Load

STATUS = EngineStatus(9, 3, 2, 1.5, 0.5, counts={"prompt_tokens": 10.0})


def deployment(deployment_id: str, model: str) -> ConfiguredDeployment:
    return ConfiguredDeployment("auto", deployment_id, model, {})


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LocalModels:
    """`one` behind two deployments, `two` known to the fleet alone; a cloud model beside them."""
    fleet = Fleet(tmp_path)
    options = {"path": "x.gguf", "process": "both", "load": "first_call"}
    fleet.warm_up([parse_model(name, options, tmp_path) for name in ("one", "two")])
    made = LocalModels(
        fleet, [deployment("a", "llama_cpp/one"), deployment("", "llama_cpp/one"), deployment("c", "openai/one")]
    )

    async def healths() -> dict[str, ModelHealth]:
        return {name: ModelHealth(name, "ready", status=STATUS) for name in ("one", "two")}

    monkeypatch.setattr(made._watch, "healths", healths)
    return made


async def test_a_queue_is_known_by_every_name_of_its_deployments(models: LocalModels) -> None:
    """By id and by model; a model that the config does not have by its own."""
    load = Load(held=5, wait_s=1.5, service_s=0.5)

    assert await models.loads() == {"a": load, "llama_cpp/one": load, "llama_cpp/two": load}


async def test_all_models_are_reported(models: LocalModels) -> None:
    """Also those that nobody has asked yet."""
    one, two = await models.reports()
    await models.aclose()

    assert (one.name, one.process, one.deployments) == ("one", "both", ("a", "llama_cpp/one"))
    assert (two.name, two.phase, two.deployments) == ("two", "unloaded", ("llama_cpp/two",))


CONFIG = """\
model_list:
  - {model_name: auto, litellm_params: {model: llama_cpp/a}, model_info: {id: a, llama_cpp: {path: a.gguf, OPTIONS}}}
  - {model_name: auto, litellm_params: {model: llama_cpp/b}, model_info: {id: b, llama_cpp: {path: b.gguf, process: p}}}
"""
POLICY = """\
name: mine
match: {model_groups: [auto]}
arms: [{deployment: a, n_examples: 2}, {deployment: b, teacher: true}]
bandit: {kind: ucb1}
"""


def _check(folder: Path, options: str) -> int:
    policy, config = folder / "p.yaml", folder / "litellm.yaml"
    policy.write_text(POLICY)
    config.write_text(CONFIG.replace("OPTIONS", options))
    return check([policy], config, Console(file=StringIO()))


def test_a_config_is_checked_with_its_local_models(tmp_path: Path) -> None:
    """Options, and what the models of a process must agree about, are told before the proxy starts."""
    assert _check(tmp_path, "process: p") == 0
    with pytest.raises(LocalModelError, match=r"llama_cpp/b: model_info.llama_cpp.max_loaded: expected 1"):
        _check(tmp_path, "process: p, max_loaded: 1")
    with pytest.raises(LocalModelError, match=r"llama_cpp/a: model_info.llama_cpp.n_ctx"):
        _check(tmp_path, "n_ctx: -1")
