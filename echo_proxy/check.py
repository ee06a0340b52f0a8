"""Would these policies work, and what would they do?"""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from echo_proxy.learning.best_effort import read_values
from echo_proxy.litellm.config import LiteLLMConfig, check_policy, read_litellm_config
from echo_proxy.litellm.local import models_of
from echo_proxy.local.groups import form_groups
from echo_proxy.policy import Policy
from echo_proxy.policy_files import load_policies
from echo_proxy.privacy.ready import make_ready
from echo_proxy.types import Arm


def check(places: Sequence[Path], config_path: Path | None, console: Console | None = None) -> int:
    """Print what each policy would do. Raises PolicyError, SettingsError or LocalModelError at the first that is
    wrong."""
    console = console or Console()
    policies = load_policies(places)
    make_ready(policies)
    config = read_litellm_config(config_path) if config_path else None
    if config is not None:
        form_groups(models_of(config))  # says what is wrong with them
    for policy in policies:
        read_values(policy)
        if config is not None:
            check_policy(policy, config)
        _show(policy, config, console)
    if config is not None:
        _show_missing_lines(config, console)
    console.print(f"[green]ok[/green]: {len(policies)} " + ("policy" if len(policies) == 1 else "policies"))
    return 0


def _show(policy: Policy, config: LiteLLMConfig | None, console: Console) -> None:
    console.print(f"\n[bold]{policy.name}[/bold] - {_summary(policy)}", soft_wrap=True)
    table = Table("arm", "deployment", "examples", "teacher", "expected at first", *(["found as"] if config else []))
    table.columns[0].no_wrap = True
    for arm in policy.to_arms():
        row = [arm.name, arm.deployment, f"up to {arm.n_examples}" if arm.n_examples else "none"]
        row += ["yes" if arm.is_teacher else "", _expected(arm, policy)]
        table.add_row(*row, *([_found(arm.deployment, policy, config)] if config else []))
    console.print(table)


def _expected(arm: Arm, policy: Policy) -> str:
    prior = policy.bandit.prior
    if arm.prior_reward is None and arm.n_examples and prior.utility_weight:
        return f"utility, worth {prior.utility_weight:g} answers"
    reward = prior.reward if arm.prior_reward is None else arm.prior_reward
    return f"{reward:g}, worth {prior.weight:g} answers"


def _summary(policy: Policy) -> str:
    bandit = policy.bandit
    acting = "decides and acts" if policy.mode == "act" else "shadow: decides and logs, LiteLLM acts"
    return (
        f"serves {', '.join(policy.match.model_groups)}; {acting}; bandit {bandit.kind}; examples shared by "
        f"{policy.scope} within distance {policy.retrieval.max_distance:g}; planning at most "
        f"{policy.deadline_s * 1000:g} ms; otherwise {policy.default_deployment or 'LiteLLM chooses'}"
    )


def _found(deployment: str, policy: Policy, config: LiteLLMConfig) -> str:
    found = [
        one.model
        for one in config.deployments
        if one.model_group in policy.match.model_groups and deployment in one.names
    ]
    return ", ".join(found) or "not in the file (may be in the database)"


def _show_missing_lines(config: LiteLLMConfig, console: Console) -> None:
    if not config.has_callback:
        console.print(
            "note: litellm_settings.callbacks lacks echo_proxy.litellm.hooks.callback; `echo-proxy serve` adds it, "
            "plain `litellm --config` needs the line",
            soft_wrap=True,
        )
