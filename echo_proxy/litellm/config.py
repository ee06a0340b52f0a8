"""What does a LiteLLM config say, and does a policy fit it?"""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from echo_proxy.errors import PolicyError, SettingsError
from echo_proxy.policy import Policy

CALLBACK = "echo_proxy.litellm.hooks.callback"
PROVIDER = "llama_cpp"
PROVIDER_HANDLER = "echo_proxy.litellm.provider.provider"


@dataclass(frozen=True, slots=True)
class ConfiguredDeployment:
    """One item of the model_list."""

    model_group: str
    id: str
    model: str
    settings: Mapping[str, Any]
    """The whole item."""

    @property
    def names(self) -> frozenset[str]:
        """Names by which a policy may call it."""
        return frozenset(name for name in (self.id, self.model) if name)


@dataclass(frozen=True, slots=True)
class LiteLLMConfig:
    """What Echo needs to know of the operator's LiteLLM config."""

    path: Path
    deployments: tuple[ConfiguredDeployment, ...]
    callbacks: tuple[str, ...]
    providers: tuple[str, ...]
    database_may_add_models: bool
    """Deployments may also come from LiteLLM's database: an unknown name is then not an error."""

    @property
    def has_callback(self) -> bool:
        """Echo's callback line stands in it."""
        return CALLBACK in self.callbacks

    @property
    def has_provider(self) -> bool:
        """Echo's provider line stands in it."""
        return PROVIDER in self.providers

    @property
    def uses_provider(self) -> bool:
        """Some deployment is a local model."""
        return any(one.model.startswith(f"{PROVIDER}/") for one in self.deployments)


def read_litellm_config(path: Path) -> LiteLLMConfig:
    """The config in a file, `include`d files too. Raises SettingsError naming what is wrong."""
    content = _load(path)
    items = _items(content, "model_list", path)
    for included in content.get("include") or ():
        items += _items(_load(path.parent / str(included)), "model_list", path.parent / str(included))
    settings = _section(content, "litellm_settings", path)
    general = _section(content, "general_settings", path)
    callbacks = settings.get("callbacks") or ()
    return LiteLLMConfig(
        path=path,
        deployments=tuple(_deployment(item) for item in items),
        callbacks=(callbacks,) if isinstance(callbacks, str) else tuple(map(str, callbacks)),
        providers=tuple(str(item.get("provider")) for item in _items(settings, "custom_provider_map", path)),
        database_may_add_models=bool(general.get("store_model_in_db")),
    )


def _load(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"{path}: expected a readable LiteLLM config, got {error.strerror}") from error
    except yaml.YAMLError as error:
        raise SettingsError(f"{path}: expected YAML, got: {error}") from error
    if not isinstance(content, dict):
        raise SettingsError(f"{path}: expected a mapping with model_list, got {type(content).__name__}")
    return content


def _section(content: Mapping[str, Any], name: str, path: Path) -> Mapping[str, Any]:
    section = content.get(name) or {}
    if not isinstance(section, Mapping):
        raise SettingsError(f"{path}: {name}: expected a mapping, got {type(section).__name__}")
    return section


def _items(content: Mapping[str, Any], name: str, path: Path) -> list[Mapping[str, Any]]:
    items = content.get(name) or []
    if not isinstance(items, list) or not all(isinstance(item, Mapping) for item in items):
        raise SettingsError(f"{path}: {name}: expected a list of mappings, got {items!r:.80}")
    return list(items)


def _deployment(item: Mapping[str, Any]) -> ConfiguredDeployment:
    return ConfiguredDeployment(
        model_group=str(item.get("model_name") or ""),
        id=str((item.get("model_info") or {}).get("id") or ""),
        model=str((item.get("litellm_params") or {}).get("model") or ""),
        settings=item,
    )


def check_policy(policy: Policy, config: LiteLLMConfig) -> None:
    """Refuse a policy whose groups or deployments the config does not have. Raises PolicyError."""
    if config.database_may_add_models:
        return
    groups = {one.model_group for one in config.deployments}
    for group in policy.match.model_groups:
        _must_know(group, groups, f"policy {policy.name}: match.model_groups", "a model_name", config.path)
    if sampled := policy.judge.sampled:
        for field, named in (("model_group", sampled.model_group), ("reference_group", sampled.reference_group)):
            if named is not None:
                _must_know(named, groups, f"policy {policy.name}: judge.sampled.{field}", "a model_name", config.path)
    known = {name for one in config.deployments if one.model_group in policy.match.model_groups for name in one.names}
    for index, arm in enumerate(policy.arms):
        _must_know(
            arm.deployment,
            known,
            f"policy {policy.name}: arms.{index}.deployment",
            _deployment_hint(policy),
            config.path,
        )
    if policy.default_deployment:
        where = f"policy {policy.name}: default_deployment"
        _must_know(policy.default_deployment, known, where, _deployment_hint(policy), config.path)


def _deployment_hint(policy: Policy) -> str:
    return f"model_info.id or litellm_params.model of a deployment of {', '.join(policy.match.model_groups)}"


def _must_know(name: str, known: set[str], field: str, expected: str, path: Path) -> None:
    if name in known:
        return
    near: Sequence[str] = difflib.get_close_matches(name, known, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else f"; it has {', '.join(sorted(known)) or 'none'}"
    raise PolicyError(f"{field}: expected {expected} in {path}, got {name!r}{hint}")
