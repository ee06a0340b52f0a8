"""Which four ways to serve are compared, and on what?"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from bench.pair.evaluate import PAIR
from echo_proxy.demo.setup import PRICES
from echo_proxy.litellm.config import CALLBACK, PROVIDER, PROVIDER_HANDLER
from tests.e2e.proxy import MASTER_KEY

ECHO_POLICY = Path(__file__).with_name("echo.yaml")
SIZES = ("small", "large")


@dataclass(frozen=True, slots=True)
class Way:
    """One way to serve."""

    name: str
    group: str
    """LiteLLM's model group."""
    is_echo: bool = False
    """A policy stands behind the group."""


LARGE_ONLY = Way("large only", "large")
SMALL_ONLY = Way("small only", "small")
NEAREST = Way("small + nearest", "nearest", is_echo=True)
ECHO = Way("Echo", "echo", is_echo=True)
WAYS = (LARGE_ONLY, SMALL_ONLY, NEAREST, ECHO)


@dataclass(frozen=True, slots=True)
class Models:
    """The two models and how they are loaded."""

    small: Path = PAIR / "small-q8_0.gguf"
    large: Path = PAIR / "large-q8_0.gguf"
    options: Mapping[str, Any] | None = None
    """More of `model_info.llama_cpp`, for both."""

    def llama_cpp(self, size: str) -> dict[str, Any]:
        """`model_info.llama_cpp` of one of them: no request is refused, so that all that wait are seen to wait."""
        return {
            "path": str((self.small if size == "small" else self.large).absolute()),
            "n_threads": 1,
            "n_threads_batch": 1,
            "max_queue": 1_000_000,
            "max_queue_s": 3600.0,
            **(self.options or {}),
        }


def litellm_config(models: Models) -> dict[str, Any]:
    """A model group for each way; all share the two models' processes."""
    items = [_deployment(models, size, size, f"{size}-only") for size in SIZES]
    items += [_deployment(models, way.group, size, f"{way.group}-{size}") for way in (NEAREST, ECHO) for size in SIZES]
    return {
        "model_list": items,
        "router_settings": {"num_retries": 0, "disable_cooldowns": True},
        "general_settings": {"master_key": MASTER_KEY, "custom_auth": "tenants.check"},
        "litellm_settings": {
            "callbacks": [CALLBACK],
            "custom_provider_map": [{"provider": PROVIDER, "custom_handler": PROVIDER_HANDLER}],
        },
    }


def _deployment(models: Models, group: str, size: str, deployment_id: str) -> dict[str, Any]:
    price = PRICES[size]
    info = {
        "id": deployment_id,
        "input_cost_per_token": price.input_usd,
        "output_cost_per_token": price.output_usd,
        PROVIDER: models.llama_cpp(size),
    }
    return {"model_name": group, "litellm_params": {"model": f"{PROVIDER}/{size}"}, "model_info": info}


def size_of(deployment_id: str) -> str:
    """small or large."""
    return next((size for size in SIZES if size in deployment_id.split("-")), "")


def echo_policy(path: Path = ECHO_POLICY) -> dict[str, Any]:
    """An operator's policy over echo-small and echo-large."""
    found: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return found


def nearest_policy(is_teaching: bool) -> dict[str, Any]:
    """Plain retrieval: the nearest example, whatever it is worth. While it is taught the large model answers."""
    drawn = "nearest-large+0" if is_teaching else "nearest-small+1"
    return {
        "name": "nearest",
        "match": {"model_groups": ["nearest"]},
        "arms": [
            {"deployment": "nearest-small", "n_examples": 1},
            {"deployment": "nearest-large", "n_examples": 0, "teacher": True},
        ],
        "default_deployment": "nearest-small",
        "bandit": {"kind": "fixed", "probabilities": {drawn: 1.0}, "floor": 1e-9},
        "retrieval": {"k": 1, "max_distance": 2.0},
        "selection": {
            "min_utility": 0.0,
            "learned": None,
            "explore": 0.0,
            "utility": {"half_distance": 2.0, "missing_names_factor": 1.0, "prior_weight": 1e9},
        },
        "prompt": {"notice": ""},
        "admission": {"min_feedback": 0.0},
        "deadline_s": 5.0,
    }
