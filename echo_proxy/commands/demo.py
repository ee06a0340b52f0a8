"""How is the demo started from a shell?"""

import argparse
from pathlib import Path

from echo_proxy.commands.arguments import RAW, Commands


def add(commands: Commands) -> None:
    """`echo-proxy demo`."""
    parser = commands.add_parser(
        "demo",
        help="show on real models that examples help, everything embedded",
        formatter_class=RAW,
        epilog="examples:\n  echo-proxy demo\n  echo-proxy demo --requests 600 --seed 3 --plain\n"
        "  echo-proxy demo --stay",
    )
    parser.add_argument("--requests", type=int, default=900, help="requests per phase (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=20, help="of the request stream (default: %(default)s)")
    parser.add_argument("--port", type=int, help="port of the proxy (default: a free one)")
    parser.add_argument("--concurrency", type=int, default=4, help="requests at once (default: %(default)s)")
    parser.add_argument("--stay", action="store_true", help="leave the proxy up and print curl lines to try")
    parser.add_argument("--plain", action="store_true", help="lines instead of the live view")
    parser.add_argument("--state-dir", type=Path, help="keep store and logs here (default: a temporary folder)")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.set_defaults(command=_run)


def _run(options: argparse.Namespace) -> int:
    from echo_proxy.demo.run import DemoOptions, main

    return main(
        DemoOptions(
            requests=options.requests,
            seed=options.seed,
            port=options.port,
            concurrency=options.concurrency,
            stay=options.stay,
            plain=options.plain,
            state_dir=options.state_dir,
            json_path=options.json,
        )
    )
