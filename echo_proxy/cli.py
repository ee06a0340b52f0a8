"""What can be done from a shell? `echo-proxy serve | demo | check | evaluate | simulate | doctor | ...`."""

import argparse
import errno
import sys
from collections.abc import Sequence

from echo_proxy import __version__
from echo_proxy.commands import (
    check,
    demo,
    doctor,
    evaluate,
    examples,
    export,
    gate,
    import_file,
    reembed,
    schema,
    serve,
    simulate,
    tune,
    upkeep,
)
from echo_proxy.commands.arguments import RAW, Command
from echo_proxy.errors import EchoProxyError

_COMMANDS = (
    serve,
    demo,
    check,
    examples,
    export,
    import_file,
    upkeep,
    evaluate,
    simulate,
    tune,
    gate,
    doctor,
    reembed,
    schema,
)
"""In the order in which the help tells them."""


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0 done, 1 refused with a reason on stderr, 2 wrong usage, 130 interrupted."""
    options = _parser().parse_args(argv)
    command: Command = options.command
    try:
        status = command(options)
        sys.stdout.flush()  # a full disk shows here, where it can still be told
        return status
    except EchoProxyError as error:
        print(f"echo-proxy: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EPIPE):
            raise
        print(f"echo-proxy: what was to be written cannot be written: {error.strerror}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="echo-proxy",
        formatter_class=RAW,
        description="Teaches a cheap model with the answers that an expensive one has already given.",
        epilog="examples:\n  echo-proxy demo\n  echo-proxy check --policy policies/default.yaml --config litellm.yaml\n"
        "  echo-proxy serve --config litellm.yaml --policy policies/default.yaml --port 4000",
    )
    parser.add_argument("--version", action="version", version=f"echo-proxy {__version__}")
    commands = parser.add_subparsers(required=True, metavar="command")
    for one in _COMMANDS:
        one.add(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
