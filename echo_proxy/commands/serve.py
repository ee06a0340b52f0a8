"""How is the proxy started from a shell?"""

import argparse
from pathlib import Path

from echo_proxy.commands.arguments import RAW, Commands, add_policy, policies


def add(commands: Commands) -> None:
    """`echo-proxy serve`."""
    parser = commands.add_parser(
        "serve",
        help="start LiteLLM's proxy with Echo inside",
        formatter_class=RAW,
        epilog="examples:\n  echo-proxy serve --config litellm.yaml --policy policies/default.yaml\n"
        "  echo-proxy serve --config litellm.yaml --policy policies/ --port 8080 --workers 2\n"
        "  echo-proxy serve --config litellm.yaml -- --detailed_debug\n\n"
        "Settings from the environment: ECHO_STORE_URL, ECHO_STATE_DIR, ECHO_EMBEDDER, ... (see README).",
    )
    parser.add_argument("--config", type=Path, required=True, help="LiteLLM's config.yaml")
    add_policy(parser)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=4000, help="port to listen on (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=1, help="worker processes (default: %(default)s)")
    parser.add_argument("rest", nargs="*", help="after --: passed on to LiteLLM's command line")
    parser.set_defaults(command=_run)


def _run(options: argparse.Namespace) -> int:
    from echo_proxy.litellm.serve import ServeOptions, serve

    serve(
        ServeOptions(
            options.config, policies(options), options.host, options.port, options.workers, tuple(options.rest)
        )
    )
    return 0
