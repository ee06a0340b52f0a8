"""Which arguments do several commands share?"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias, get_args

from echo_proxy.policy_keeping import Breadth
from echo_proxy.settings import read_settings

Command = Callable[[argparse.Namespace], int]
"""Does what was asked; returns the exit status."""
Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"
"""What `add_subparsers` returns; argparse has no public name for it."""
RAW = argparse.RawDescriptionHelpFormatter


def add_policy(parser: argparse.ArgumentParser) -> None:
    """`--policy`, which may be repeated."""
    parser.add_argument(
        "--policy",
        type=Path,
        action="append",
        metavar="PATH",
        help="policy file or folder; may be repeated (default: ECHO_POLICY or policies/default.yaml)",
    )


def policies(options: argparse.Namespace) -> tuple[Path, ...]:
    """The files and folders that `--policy` or the settings name."""
    return tuple(options.policy) if options.policy else read_settings().policy_places


def quality(text: str) -> float:
    """A number in [0, 1]. Raises argparse.ArgumentTypeError."""
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number <= 1:
        raise argparse.ArgumentTypeError(f"expected a number in [0, 1], got {text!r}")
    return number


def scope(text: str) -> str:
    """A scope, `<kind>:<identity>`. Raises argparse.ArgumentTypeError."""
    kind, _, identity = text.partition(":")
    if kind not in get_args(Breadth) or not identity:
        kinds = ", ".join(get_args(Breadth))
        raise argparse.ArgumentTypeError(f"expected a scope such as team:red (kinds: {kinds}), got {text!r}")
    return text
