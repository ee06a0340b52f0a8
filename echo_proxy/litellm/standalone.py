"""How are a config's models asked without the proxy, by a command of ours?

A router of LiteLLM's own is made from the same file. Of the proxy's other settings (callbacks, caches, budgets, keys)
nothing applies: the calls are Echo's own, as beside the path.
"""

import os
import warnings
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import litellm
import yaml
from litellm.integrations.custom_logger import CustomLogger
from litellm.proxy.types_utils.utils import get_instance_fn
from litellm.router import Router
from litellm.types.llms.custom_llm import CustomLLMItem

from echo_proxy.errors import SettingsError
from echo_proxy.litellm.beside import FAILURES, RouterModels, ours
from echo_proxy.litellm.config import PROVIDER, LiteLLMConfig
from echo_proxy.litellm.local import shutdown_models
from echo_proxy.protocols import Clock
from echo_proxy.settings import Settings

_REFERENCE = "os.environ/"


class _Chooser(CustomLogger):
    """Keeps a call of our own to the deployment that it names, as Echo's callback does in the proxy."""

    async def async_filter_deployments(
        self,
        model: str,
        healthy_deployments: list[Any],
        messages: list[Any] | None,
        request_kwargs: dict[str, Any] | None = None,
        parent_otel_span: Any = None,
    ) -> list[Any]:
        """Those that may answer."""
        own = ours(model, healthy_deployments)
        return healthy_deployments if own is None else list(own)


@asynccontextmanager
async def standalone_models(config: LiteLLMConfig, settings: Settings, clock: Clock) -> AsyncIterator[RouterModels]:
    """The models of a config, to be asked by one command.

    Local models are asked where they run, and started where they do not; what was started is ended afterwards.
    Raises SettingsError when LiteLLM refuses the config.
    """
    content = yaml.safe_load(config.path.read_text(encoding="utf-8")) or {}
    _set_environment(content.get("environment_variables") or {})
    _register_providers(config, content)
    chooser = _Chooser()
    litellm.callbacks.append(chooser)
    try:
        # pydantic warns of LiteLLM's own types when they are first used
        with warnings.catch_warnings(action="ignore", category=UserWarning):
            router = _router(config, content)
            yield RouterModels(lambda: router, clock)
    finally:
        litellm.callbacks.remove(chooser)
        if config.uses_provider:
            shutdown_models(settings.folder)


def _router(config: LiteLLMConfig, content: Mapping[str, Any]) -> Router:
    wanted = content.get("router_settings") or {}
    try:
        return Router(
            model_list=[dict(one.settings) for one in config.deployments],
            model_group_alias=wanted.get("model_group_alias") or {},
            num_retries=0,
            disable_cooldowns=True,
            set_verbose=False,
        )
    except FAILURES as error:  # the kind alone: an item holds keys
        raise SettingsError(f"{config.path}: model_list: LiteLLM refuses it: {type(error).__name__}") from error


def _set_environment(variables: Mapping[str, Any]) -> None:
    """As the proxy does: `os.environ/NAME` means another variable."""
    for name, value in variables.items():
        text = str(value)
        if not text.startswith(_REFERENCE):
            os.environ[name] = text
        elif (found := os.environ.get(text.removeprefix(_REFERENCE))) is not None:
            os.environ[name] = found


def _register_providers(config: LiteLLMConfig, content: Mapping[str, Any]) -> None:
    """The config's own providers, and ours where a local model needs it."""
    items = (content.get("litellm_settings") or {}).get("custom_provider_map") or []
    path = str(config.path.absolute())
    known: list[CustomLLMItem] = [
        {"provider": item["provider"], "custom_handler": get_instance_fn(item["custom_handler"], path)}
        for item in items
        if item["provider"] != PROVIDER
    ]
    if config.uses_provider:
        from echo_proxy.litellm.provider import LlamaCppProvider

        known.append({"provider": PROVIDER, "custom_handler": LlamaCppProvider(_with_config(config.path))})
    if known:
        litellm.custom_provider_map = known
        litellm.utils.custom_llm_setup()  # type: ignore[no-untyped-call]


def _with_config(path: Path) -> Settings:
    """The process's settings; relative paths of models start at the config."""
    return Settings(litellm_config=path)
