"""How is a gate for co-decoding fitted, from a shell?"""

import argparse
from pathlib import Path

from echo_proxy.commands.arguments import RAW, Commands
from echo_proxy.tune.units import share


def add(commands: Commands) -> None:
    """`echo-proxy gate`."""
    parser = commands.add_parser(
        "gate",
        help="fit when a smaller model that writes for a larger one (drafting: co_decode) hands over",
        formatter_class=RAW,
        description="Fits a gate to a log of on which tokens two models agreed, and says what it is worth on the\n"
        "newest fifth of them, which it has not seen.",
        epilog="examples:\n  echo-proxy gate agreement.jsonl --out gate.json\n"
        "  echo-proxy gate agreement.jsonl --out gate.json --disagreement 0.02 --json",
    )
    parser.add_argument("agreements", type=Path, metavar="agreement.jsonl", help="the log, one token a line")
    parser.add_argument("--out", type=Path, required=True, metavar="JSON", help="where the gate is written")
    parser.add_argument(
        "--disagreement",
        type=share,
        default=0.05,
        metavar="SHARE",
        help="of the tokens that the smaller model writes, on which the larger may disagree (default: %(default)s)",
    )
    parser.add_argument("--json", action="store_true", help="JSON on stdout instead of the table")
    parser.set_defaults(command=_run)


def _run(options: argparse.Namespace) -> int:
    from echo_proxy.tune.gate import GateCommand, fit

    return fit(GateCommand(options.agreements, options.out, options.disagreement, options.json))
