import os
from pathlib import Path

import pytest

from echo_proxy.errors import PolicyError
from echo_proxy.litellm.serve import STARTUP_HOOK, ServeOptions, arguments, environment, serve

OPTIONS = ServeOptions(Path("litellm.yaml"), (Path("a.yaml"), Path("/b.yaml")), "0.0.0.0", 8080, 2, ("--debug",))


def test_workers_inherit_where_things_are() -> None:
    """Absolute, because a worker may start elsewhere."""
    assert environment(OPTIONS, "") == {
        "ECHO_POLICY": f"{Path.cwd()}/a.yaml,/b.yaml",
        "ECHO_LITELLM_CONFIG": f"{Path.cwd()}/litellm.yaml",
        "LITELLM_WORKER_STARTUP_HOOKS": STARTUP_HOOK,
    }


@pytest.mark.parametrize("other", ["mine:start", f"mine:start,{STARTUP_HOOK}", f"{STARTUP_HOOK},mine:start,"])
def test_others_startup_hooks_stay(other: str) -> None:
    """Ours stands once, last."""
    assert environment(OPTIONS, other)["LITELLM_WORKER_STARTUP_HOOKS"] == f"mine:start,{STARTUP_HOOK}"


def test_litellm_s_command_line_is_written() -> None:
    """With what the user passed on at its end, so that it has the last word."""
    made = list(arguments(OPTIONS))
    pairs = dict(zip(made[:-1:2], made[1:-1:2], strict=True))

    assert pairs == {
        "--config": "litellm.yaml",
        "--host": "0.0.0.0",
        "--port": "8080",
        "--num_workers": "2",
        "--timeout_worker_healthcheck": "120",
    }
    assert made[-1] == "--debug"


def test_a_policy_that_does_not_fit_stops_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The environment is untouched too."""
    monkeypatch.delenv("ECHO_POLICY", raising=False)
    config, rules = tmp_path / "litellm.yaml", tmp_path / "p.yaml"
    config.write_text("model_list: []")
    rules.write_text("name: a\nmatch: {model_groups: [auto]}\narms: [{deployment: x}]\nbandit: {kind: uniform}\n")

    with pytest.raises(PolicyError, match=r"match\.model_groups: expected a model_name"):
        serve(ServeOptions(config, (rules,)))

    assert "ECHO_POLICY" not in os.environ


@pytest.mark.parametrize("path", ["/echo/ready", "/echo/decisions/01a", "/echo/feedback", "/echo/examples"])
def test_litellm_lets_virtual_keys_ask_our_routes(path: str) -> None:
    """Without this only admins could give feedback where LiteLLM keeps its keys in a database."""
    from litellm.proxy.auth.route_checks import RouteChecks

    from echo_proxy.litellm.startup import ROUTES

    assert RouteChecks.check_route_access(route=path, allowed_routes=[ROUTES])
    assert not RouteChecks.check_route_access(route="/key/generate", allowed_routes=[ROUTES])
