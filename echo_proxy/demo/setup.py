"""What does the demo's proxy run on? A LiteLLM config and two policies, as an operator would write them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

import echo_proxy
from echo_proxy.demo.phases import Bandit, phases_for
from echo_proxy.litellm.config import CALLBACK, PROVIDER, PROVIDER_HANDLER

_PACKAGE = Path(echo_proxy.__file__).parent
PAIR = _PACKAGE / "assets" / "pair"
"""Holds the two bundled GGUF files."""
KEY_VARIABLE = "LITELLM_MASTER_KEY"


@dataclass(frozen=True, slots=True)
class Price:
    """What a deployment's tokens cost."""

    input_usd: float
    """Per token read."""
    output_usd: float
    """Per token written."""


PRICES = {"small": Price(0.05e-6, 0.10e-6), "large": Price(2.5e-6, 10e-6)}
"""Illustrative: about what a small open model and a large hosted one cost in 2025. Nobody is charged."""


@dataclass(frozen=True, slots=True)
class SetupFiles:
    """What `serve` is started with."""

    config: Path
    policies: tuple[Path, ...]


def policy_path(name: str) -> Path:
    """The policy file of that name, in an installed package or in a checkout."""
    installed = _PACKAGE / "policies" / f"{name}.yaml"
    return installed if installed.is_file() else _PACKAGE.parent / "policies" / f"{name}.yaml"


def write_setup(folder: Path, bandits: tuple[Bandit, ...]) -> SetupFiles:
    """Write the LiteLLM config into the folder; the policies stay where they are."""
    config = folder / "litellm.yaml"
    config.write_text(yaml.safe_dump(litellm_config(), sort_keys=False), encoding="utf-8")
    names = [phase.model_group for phase in phases_for(bandits) if phase.is_echo]
    return SetupFiles(config, tuple(policy_path(name) for name in names))


def litellm_config() -> dict[str, Any]:
    """Four model groups over two local models: `large`, `small`, and two where Echo chooses."""
    return {
        "model_list": [
            _deployment("large", "large", "large-only"),
            _deployment("small", "small", "small-only"),
            # An id that equals a local model's name would lose its price: LiteLLM looks prices up under both.
            _deployment("demo-epsilon", "small", "small-epsilon"),
            _deployment("demo-epsilon", "large", "large-epsilon"),
            _deployment("demo-ucb", "small", "small-ucb"),
            _deployment("demo-ucb", "large", "large-ucb"),
        ],
        "litellm_settings": {
            "callbacks": [CALLBACK],
            "custom_provider_map": [{"provider": PROVIDER, "custom_handler": PROVIDER_HANDLER}],
        },
        # The key itself stays in the environment, so no file holds it.
        "general_settings": {"master_key": f"os.environ/{KEY_VARIABLE}"},
    }


def _deployment(model_group: str, size: str, deployment_id: str) -> dict[str, Any]:
    """One item of the model_list. All that name the same local model share its process."""
    price = PRICES[size]
    return {
        "model_name": model_group,
        "litellm_params": {"model": f"{PROVIDER}/{size}"},
        "model_info": {
            # One thread each: on few cores llama.cpp's threads wait for one another while other processes run.
            "llama_cpp": {"path": str(PAIR / f"{size}-q8_0.gguf"), "n_threads": 1, "n_threads_batch": 1},
            "id": deployment_id,
            "input_cost_per_token": price.input_usd,
            "output_cost_per_token": price.output_usd,
        },
    }
