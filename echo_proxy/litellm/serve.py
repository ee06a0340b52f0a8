"""How is LiteLLM's own proxy started with Echo inside?"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from echo_proxy.litellm.config import check_policy, read_litellm_config
from echo_proxy.policy_files import load_policies

STARTUP_HOOK = "echo_proxy.litellm.startup:startup"
_WORKER_CHECK_S = 120
"""Importing LiteLLM takes longer than uvicorn's 5 seconds; two workers would be killed and restarted for ever."""


@dataclass(frozen=True, slots=True)
class ServeOptions:
    """What `echo-proxy serve` was asked for."""

    config: Path
    policies: tuple[Path, ...]
    host: str = "127.0.0.1"
    port: int = 4000
    workers: int = 1
    rest: tuple[str, ...] = ()
    """Passed on to LiteLLM's own command line."""


def serve(options: ServeOptions) -> None:
    """Check, then run LiteLLM's proxy in this process. Raises PolicyError or SettingsError before anything starts."""
    config = read_litellm_config(options.config)
    for policy in load_policies(options.policies):
        check_policy(policy, config)
    os.environ.update(environment(options, os.environ.get("LITELLM_WORKER_STARTUP_HOOKS", "")))
    from litellm.proxy.proxy_cli import run_server

    run_server.main(args=arguments(options), standalone_mode=False)


def environment(options: ServeOptions, other_hooks: str) -> dict[str, str]:
    """Variables that the workers inherit; startup hooks of others stay."""
    hooks = [hook for hook in other_hooks.split(",") if hook and hook != STARTUP_HOOK]
    return {
        "ECHO_POLICY": ",".join(str(path.absolute()) for path in options.policies),
        "ECHO_LITELLM_CONFIG": str(options.config.absolute()),
        "LITELLM_WORKER_STARTUP_HOOKS": ",".join([*hooks, STARTUP_HOOK]),
    }


def arguments(options: ServeOptions) -> Sequence[str]:
    """LiteLLM's command line."""
    return [
        "--config",
        str(options.config),
        "--host",
        options.host,
        "--port",
        str(options.port),
        "--num_workers",
        str(options.workers),
        "--timeout_worker_healthcheck",
        str(_WORKER_CHECK_S),
        *options.rest,
    ]
