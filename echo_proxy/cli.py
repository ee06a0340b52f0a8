"""What can be done from a shell? `echo-proxy serve | demo | check | doctor | reembed | schema`."""

import argparse
import asyncio
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from echo_proxy import __version__
from echo_proxy.errors import EchoProxyError
from echo_proxy.settings import read_settings

Command = Callable[[argparse.Namespace], int]

_RAW = argparse.RawDescriptionHelpFormatter


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0 done, 1 refused with a reason on stderr, 2 wrong usage, 130 interrupted."""
    options = _parser().parse_args(argv)
    command: Command = options.command
    try:
        return command(options)
    except EchoProxyError as error:
        print(f"echo-proxy: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="echo-proxy",
        formatter_class=_RAW,
        description="Teaches a cheap model with the answers that an expensive one has already given.",
        epilog="examples:\n  echo-proxy demo\n  echo-proxy check --policy policies/default.yaml --config litellm.yaml\n"
        "  echo-proxy serve --config litellm.yaml --policy policies/default.yaml --port 4000",
    )
    parser.add_argument("--version", action="version", version=f"echo-proxy {__version__}")
    commands = parser.add_subparsers(required=True, metavar="command")
    for add in (_add_serve, _add_demo, _add_check, _add_doctor, _add_reembed, _add_schema):
        add(commands)
    return parser


# ------------------------------------------------------------------ serve


def _add_serve(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = commands.add_parser(
        "serve",
        help="start LiteLLM's proxy with Echo inside",
        formatter_class=_RAW,
        epilog="examples:\n  echo-proxy serve --config litellm.yaml --policy policies/default.yaml\n"
        "  echo-proxy serve --config litellm.yaml --policy policies/ --port 8080 --workers 2\n"
        "  echo-proxy serve --config litellm.yaml -- --detailed_debug\n\n"
        "Settings from the environment: ECHO_STORE_URL, ECHO_STATE_DIR, ECHO_EMBEDDER, ... (see README).",
    )
    parser.add_argument("--config", type=Path, required=True, help="LiteLLM's config.yaml")
    _add_policy(parser)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=4000, help="port to listen on (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=1, help="worker processes (default: %(default)s)")
    parser.add_argument("rest", nargs="*", help="after --: passed on to LiteLLM's command line")
    parser.set_defaults(command=_serve)


def _serve(options: argparse.Namespace) -> int:
    from echo_proxy.litellm.serve import ServeOptions, serve

    serve(
        ServeOptions(
            options.config, _policies(options), options.host, options.port, options.workers, tuple(options.rest)
        )
    )
    return 0


# ------------------------------------------------------------------ demo


def _add_demo(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = commands.add_parser(
        "demo",
        help="show on real models that examples help, everything embedded",
        formatter_class=_RAW,
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
    parser.set_defaults(command=_demo)


def _demo(options: argparse.Namespace) -> int:
    from echo_proxy.demo.run import DemoOptions
    from echo_proxy.demo.run import main as run

    return run(
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


# ------------------------------------------------------------------ check


def _add_check(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = commands.add_parser(
        "check",
        help="validate policies, also against a LiteLLM config, and say what they would do",
        formatter_class=_RAW,
        epilog="examples:\n  echo-proxy check --policy policies/\n"
        "  echo-proxy check --policy policies/default.yaml --config litellm.yaml",
    )
    _add_policy(parser)
    parser.add_argument("--config", type=Path, help="LiteLLM's config.yaml to check the policies against")
    parser.set_defaults(command=_check)


def _check(options: argparse.Namespace) -> int:
    from echo_proxy.check import check

    return check(_policies(options), options.config)


# ------------------------------------------------------------------ doctor, reembed, schema


def _add_doctor(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = commands.add_parser("doctor", help="say what this installation can do: llama.cpp, GPU, embedded Redis")
    parser.set_defaults(command=_doctor)


def _doctor(options: argparse.Namespace) -> int:
    from echo_proxy.doctor import report

    print("\n".join(report()))
    return 0


def _add_reembed(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = commands.add_parser(
        "reembed",
        help="embed all examples of a policy again, after the embedding model changed",
        formatter_class=_RAW,
        description="Embeds all examples anew with the model that the settings name now (ECHO_EMBEDDER, "
        "ECHO_EMBEDDER_DIMENSIONS).\nStop every proxy that uses the store first; none can start until it is finished. "
        "It may be\ninterrupted at any point: nothing is lost, and the same command again goes on from there.",
        epilog="examples:\n  echo-proxy reembed --policy policies/default.yaml\n"
        "  ECHO_EMBEDDER=openai/text-embedding-3-small ECHO_EMBEDDER_DIMENSIONS=1536 echo-proxy reembed "
        "--policy policies/default.yaml",
    )
    _add_policy(parser)
    parser.set_defaults(command=_reembed)


def _reembed(options: argparse.Namespace) -> int:
    from echo_proxy.reembed import reembed_all

    asyncio.run(reembed_all(_policies(options)))
    return 0


def _add_schema(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = commands.add_parser(
        "schema",
        help="print the JSON Schema of policies, for editors",
        formatter_class=_RAW,
        epilog="examples:\n  echo-proxy schema > policy.schema.json\n"
        "  # first line of a policy: # yaml-language-server: $schema=./policy.schema.json",
    )
    parser.set_defaults(command=_schema)


def _schema(options: argparse.Namespace) -> int:
    from echo_proxy.policy import Policy

    print(json.dumps({**Policy.model_json_schema(), "title": "Echo Proxy policy"}, indent=2))
    return 0


def _add_policy(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--policy",
        type=Path,
        action="append",
        metavar="PATH",
        help="policy file or folder; may be repeated (default: ECHO_POLICY or policies/default.yaml)",
    )


def _policies(options: argparse.Namespace) -> tuple[Path, ...]:
    return tuple(options.policy) if options.policy else read_settings().policy_places


if __name__ == "__main__":
    sys.exit(main())
