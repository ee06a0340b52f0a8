"""How does one ask from a shell what this installation can do?"""

import argparse
from pathlib import Path

from echo_proxy.commands.arguments import Commands


def add(commands: Commands) -> None:
    """`echo-proxy doctor`."""
    parser = commands.add_parser("doctor", help="say what this installation can do: llama.cpp, GPU, embedded Redis")
    parser.add_argument("--config", type=Path, help="LiteLLM's YAML: how much of its local models a GPU could hold")
    parser.set_defaults(command=_run)


def _run(options: argparse.Namespace) -> int:
    from echo_proxy.doctor import report

    print("\n".join(report(options.config)))
    return 0
