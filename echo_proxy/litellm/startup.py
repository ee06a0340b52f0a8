"""How does Echo come up inside a proxy worker? Named in LITELLM_WORKER_STARTUP_HOOKS."""

import asyncio
import logging
import os
from pathlib import Path
from typing import Any

import litellm
from fastapi import FastAPI
from litellm.proxy._types import LiteLLMRoutes

from echo_proxy.admin.routes import make_router
from echo_proxy.app import App, build_app
from echo_proxy.clock import SystemClock
from echo_proxy.litellm.beside import RouterModels
from echo_proxy.litellm.calls import caller_from_auth
from echo_proxy.litellm.config import CALLBACK, PROVIDER, LiteLLMConfig, check_policy, read_litellm_config
from echo_proxy.litellm.desk import Desk
from echo_proxy.litellm.local import LocalModels, warm_up_models
from echo_proxy.litellm.runtime import set_desk
from echo_proxy.local.fleet import shared_fleet
from echo_proxy.settings import Settings, read_settings

log = logging.getLogger("echo_proxy")

ROUTES = "/echo/*"

_sentinels: set[asyncio.Task[None]] = set()
"""Tasks are only weakly referenced by their loop."""


async def startup() -> None:
    """Start Echo in this worker and add its routes to LiteLLM's app.

    Raises PolicyError, SettingsError or SchemaMismatch, which stop the worker: better no start than a wrong one.
    """
    from litellm.proxy.auth.user_api_key_auth import user_api_key_auth
    from litellm.proxy.proxy_server import app as proxy_app

    settings = read_settings()
    app = await asyncio.to_thread(build_app, settings)  # with Presidio it takes seconds
    config = _config(settings)
    if config is not None:
        app.must_fit(lambda policy: check_policy(policy, config))
        _add_missing_lines(config, is_launched=settings.litellm_config is not None)
        _begin_local_models(app, config, settings)
    app.ask_by(RouterModels(_router, SystemClock()))
    await app.start()
    set_desk(Desk(app, SystemClock()))
    _add_routes(proxy_app, app, user_api_key_auth)
    _stop_with_the_loop(app)
    log.info("Echo is up: policies %s", ", ".join(app.lanes))


def _router() -> Any:
    """LiteLLM makes it after this hook, and again when its config changes."""
    from litellm.proxy import proxy_server

    return proxy_server.llm_router


def _config(settings: Settings) -> LiteLLMConfig | None:
    path = settings.litellm_config or os.environ.get("CONFIG_FILE_PATH")
    return read_litellm_config(Path(path)) if path else None


def _add_missing_lines(config: LiteLLMConfig, *, is_launched: bool) -> None:
    """Under our launcher an untouched LiteLLM config works too: what it lacks is registered before it is read."""
    if is_launched and not config.has_callback:
        from echo_proxy.litellm.hooks import callback

        litellm.callbacks.append(callback)
    if not is_launched and not config.has_callback:
        log.error("litellm_settings.callbacks lacks %s: Echo is up but sees no call", CALLBACK)
    if config.uses_provider and not config.has_provider:
        from echo_proxy.litellm.provider import provider

        litellm.custom_provider_map.append({"provider": PROVIDER, "custom_handler": provider})
        litellm.utils.custom_llm_setup()  # type: ignore[no-untyped-call]


def _begin_local_models(app: App, config: LiteLLMConfig, settings: Settings) -> None:
    if not config.uses_provider:
        return
    warm_up_models([one.settings for one in config.deployments], config.path.parent, settings.folder)
    app.watch(LocalModels(shared_fleet(settings.folder), config.deployments))


def _add_routes(proxy_app: FastAPI, app: App, authenticate: object) -> None:
    # LiteLLM lets virtual keys ask only routes it knows; ours check scope and writer themselves.
    if ROUTES not in LiteLLMRoutes.self_managed_routes.value:
        LiteLLMRoutes.self_managed_routes.value.append(ROUTES)
    proxy_app.include_router(make_router(app, authenticate, caller_from_auth))
    proxy_app.openapi_schema = None


def _stop_with_the_loop(app: App) -> None:
    """LiteLLM offers no shutdown hook; the server cancels all tasks when its loop ends, and this one stops Echo."""

    async def sentinel() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            set_desk(None)
            await app.stop()
            raise

    task = asyncio.create_task(sentinel())
    _sentinels.add(task)
    task.add_done_callback(_sentinels.discard)
