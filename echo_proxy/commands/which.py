"""How does one say on a command line which examples are meant?"""

import argparse
import re
import time
from datetime import datetime
from typing import get_args

from echo_proxy.types import Origin, Which

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def add_which(parser: argparse.ArgumentParser) -> None:
    """Options that name examples by what is known of them."""
    parser.add_argument("--scope", metavar="S", help="only of this scope, e.g. team:red")
    parser.add_argument("--writer", metavar="W", help="only written under this key (its hash)")
    parser.add_argument("--teacher", metavar="T", help="only answered by this deployment")
    parser.add_argument("--origin", choices=get_args(Origin), help="only those that came to be so")
    parser.add_argument("--after", type=moment, metavar="TIME", help="only created after: 30m, 24h, 7d or an ISO date")
    parser.add_argument("--before", type=moment, metavar="TIME", help="only created before")
    quarantine = parser.add_mutually_exclusive_group()
    quarantine.add_argument("--quarantined", action="store_true", default=None, help="only those in quarantine")
    quarantine.add_argument("--released", dest="quarantined", action="store_false", help="only those that are not")


def which(options: argparse.Namespace) -> Which:
    """The examples that the options mean."""
    return Which(
        scope=options.scope,
        writer=options.writer,
        teacher=options.teacher,
        origin=options.origin,
        created_after=options.after,
        created_before=options.before,
        in_quarantine=options.quarantined,
    )


def moment(text: str) -> float:
    """Seconds since the epoch of `30m` (ago), `7d` or an ISO date. Raises argparse.ArgumentTypeError."""
    if found := re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", text):
        return time.time() - float(found[1]) * _UNITS[found[2]]
    try:
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError, OSError) as error:
        raise argparse.ArgumentTypeError(
            f"expected a time like 30m, 24h, 7d or 2026-01-31T12:00, got {text!r}"
        ) from error
