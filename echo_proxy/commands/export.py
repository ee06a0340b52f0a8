"""How are stored examples written into a file, from a shell?"""

import argparse
import asyncio
import json
import sys
from dataclasses import asdict

from echo_proxy.commands.arguments import RAW, Commands, add_policy, policies
from echo_proxy.commands.which import add_which, which


def add(commands: Commands) -> None:
    """`echo-proxy export`."""
    parser = commands.add_parser(
        "export",
        help="write the examples of a policy into a file, one JSON object a line",
        formatter_class=RAW,
        description="Writes the unexpired examples of a policy: a header, then one example a line (docs/examples.md).\n"
        "The file has its name only once it is whole; until then it is FILE.part.",
        epilog="examples:\n  echo-proxy export --policy policies/default.yaml --out examples.jsonl.gz --vectors\n"
        "  echo-proxy export --scope team:red --after 7d | jq .request\n"
        "  echo-proxy export --schema > examples.schema.json\n\n"
        "exit status: 0 done, 1 refused with a reason, 2 wrong usage, 130 interrupted: --resume goes on",
    )
    add_policy(parser)
    parser.add_argument("--out", default="-", metavar="FILE", help=".jsonl or .jsonl.gz; - = standard output (default)")
    parser.add_argument(
        "--vectors",
        nargs="?",
        const="float16",
        choices=("float16", "float32"),
        help="with their vectors, so that nothing need be embedded again (default: without; --vectors = float16)",
    )
    add_which(parser)
    parser.add_argument("--resume", action="store_true", help="go on with FILE.part")
    parser.add_argument("--force", action="store_true", help="FILE may be overwritten")
    parser.add_argument("--schema", action="store_true", help="print the JSON Schema of a line instead")
    parser.add_argument("--json", action="store_true", help="say what was done as JSON, on stderr when FILE is -")
    parser.set_defaults(command=_run)


def _run(options: argparse.Namespace) -> int:
    if options.schema:
        from echo_proxy.transfer.rows import json_schema

        print(json.dumps(json_schema(), indent=2))
        return 0
    return asyncio.run(_export(options))


async def _export(options: argparse.Namespace) -> int:
    from echo_proxy.commands.places import opened
    from echo_proxy.transfer.exporting import ExportCommand, export_examples

    asked = ExportCommand(options.out, options.vectors, which(options), options.resume, options.force)
    async with opened(policies(options)) as place:
        done = await export_examples(asked, place.policy.name, place.store, place.embedder, place.clock)
    words = f"{done.n_examples:,} examples, {done.n_bytes:,} bytes in {done.seconds:.1f} s"
    told = json.dumps({**asdict(done), "out": options.out}) if options.json else f"exported {words} to {options.out}"
    print(told, file=sys.stderr if options.out == "-" else sys.stdout)
    return 0
