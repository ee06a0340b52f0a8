"""What does `8G` or `2m` on a command line mean?"""

import argparse
import re
from collections.abc import Callable

_BYTES = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}
_SECONDS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}


def n_bytes(text: str) -> int:
    """`8G`, `512MiB` or a number of bytes. Raises argparse.ArgumentTypeError."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?", text.strip().lower())
    if not found or not float(found[1]):
        raise argparse.ArgumentTypeError(f"expected a size such as 8G or 512M, got {text!r}")
    return int(float(found[1]) * _BYTES[found[2]])


def seconds(text: str) -> float:
    """`90s`, `5m`, `1h` or a number of seconds. Raises argparse.ArgumentTypeError."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smh]?)", text.strip().lower())
    if not found or not float(found[1]):
        raise argparse.ArgumentTypeError(f"expected a time such as 90s or 5m, got {text!r}")
    return float(found[1]) * _SECONDS[found[2]]


def whole(least: int, most: int) -> Callable[[str], int]:
    """A parser of whole numbers within bounds, for argparse."""

    def parse(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = least - 1
        if not least <= number <= most:
            raise argparse.ArgumentTypeError(f"expected a whole number from {least} to {most}, got {text!r}")
        return number

    return parse


def share(text: str) -> float:
    """A number between 0 and 1. Raises argparse.ArgumentTypeError."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < 1:
        raise argparse.ArgumentTypeError(f"expected a share between 0 and 1, got {text!r}")
    return number


def shown_bytes(number: float) -> str:
    """For people."""
    return f"{number / 2**30:.1f} GiB" if number >= 2**30 else f"{number / 2**20:.0f} MiB"
