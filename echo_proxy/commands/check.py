"""How are policies checked from a shell?"""

import argparse
from pathlib import Path

from echo_proxy.commands.arguments import RAW, Commands, add_policy, policies


def add(commands: Commands) -> None:
    """`echo-proxy check`."""
    parser = commands.add_parser(
        "check",
        help="validate policies, also against a LiteLLM config, and say what they would do",
        formatter_class=RAW,
        epilog="examples:\n  echo-proxy check --policy policies/\n"
        "  echo-proxy check --policy policies/default.yaml --config litellm.yaml",
    )
    add_policy(parser)
    parser.add_argument("--config", type=Path, help="LiteLLM's config.yaml to check the policies against")
    parser.set_defaults(command=_run)


def _run(options: argparse.Namespace) -> int:
    from echo_proxy.check import check

    return check(policies(options), options.config)
