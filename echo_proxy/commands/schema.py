"""How is the JSON Schema of policies printed?"""

import argparse
import json

from echo_proxy.commands.arguments import RAW, Commands


def add(commands: Commands) -> None:
    """`echo-proxy schema`."""
    parser = commands.add_parser(
        "schema",
        help="print the JSON Schema of policies, for editors",
        formatter_class=RAW,
        epilog="examples:\n  echo-proxy schema > policy.schema.json\n"
        "  # first line of a policy: # yaml-language-server: $schema=./policy.schema.json",
    )
    parser.set_defaults(command=_run)


def _run(options: argparse.Namespace) -> int:
    from echo_proxy.policy import Policy

    print(json.dumps({**Policy.model_json_schema(), "title": "Echo Proxy policy"}, indent=2))
    return 0
