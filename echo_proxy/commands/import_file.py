"""How are examples taken from a file, from a shell?"""

import argparse
import asyncio
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from echo_proxy.commands.arguments import RAW, Commands, add_policy, policies, quality, scope

if TYPE_CHECKING:
    from echo_proxy.transfer.importing import ImportCommand, Imported


def add(commands: Commands) -> None:
    """`echo-proxy import`."""
    parser = commands.add_parser(
        "import",
        help="keep the examples of a file: of an export, or of fine-tuning data",
        formatter_class=RAW,
        description="Takes files of `export`, and rows of a request and its response, or of messages as OpenAI's\n"
        "fine-tuning has them (docs/examples.md). Vectors of the model that the settings name are used, others made\n"
        "anew. The policy's rules about secrets and personal data hold. In a scope of many an example serves its\n"
        "writer alone until it is confirmed, unless the file is trusted. What the store holds stays as it is.",
        epilog="examples:\n  echo-proxy import --policy policies/default.yaml examples.jsonl.gz --trusted\n"
        "  echo-proxy import --scope team:red --teacher gpt-4o --quality 0.9 finetuning.jsonl\n"
        "  zcat rows.jsonl.gz | echo-proxy import --scope public:all --skip-bad bad.jsonl -\n\n"
        "exit status: 0 done, 1 refused with a reason (what came before is kept), 2 wrong usage, 130 interrupted:\n"
        "--resume goes on; with --skip-bad 3 = done, but for the lines in that file",
    )
    parser.add_argument("file", metavar="FILE", help=".jsonl or .jsonl.gz; - = standard input")
    add_policy(parser)
    parser.add_argument("--scope", type=scope, metavar="S", help="in place of the rows' scopes, e.g. team:red")
    parser.add_argument("--writer", metavar="W", help="in place of the rows' writers: the hash of a key")
    parser.add_argument("--trusted", action="store_true", help="believe what the file says of release and proof")
    parser.add_argument("--fresh", action="store_true", help="begin their counts (uses, offloads, ...) at 0")
    parser.add_argument("--replace", action="store_true", help="replace examples that the store holds already")
    parser.add_argument("--reembed", action="store_true", help="make all vectors anew")
    parser.add_argument("--skip-bad", type=Path, metavar="FILE", help="write lines that are wrong there and go on")
    parser.add_argument("--resume", action="store_true", help="go on where an interrupted import of the file ended")
    rows = parser.add_argument_group("what rows that did not come from Echo take")
    rows.add_argument("--teacher", default="import", help="deployment that gave the answers (default: %(default)s)")
    rows.add_argument("--quality", type=quality, default=0.7, help="of answers nobody judged (default: %(default)s)")
    rows.add_argument("--system", default="", metavar="TEXT", help="system prompt under which they were asked")
    rows.add_argument("--json-answers", action="store_true", help="their answers are JSON objects")
    parser.add_argument("--json", action="store_true", help="say what was done as JSON")
    parser.set_defaults(command=_run)


def _run(options: argparse.Namespace) -> int:
    return asyncio.run(_import(options))


async def _import(options: argparse.Namespace) -> int:
    from echo_proxy.commands.places import opened
    from echo_proxy.transfer.importing import import_examples

    asked = _asked(options)
    async with opened(policies(options), may_make=True) as place:
        done = await import_examples(asked, place.policy, place.store, place.embedder, place.clock)
    _tell(done, options)
    return 3 if done.n_bad else 0


def _asked(options: argparse.Namespace) -> "ImportCommand":
    from echo_proxy.transfer.claims import Claims
    from echo_proxy.transfer.foreign import Defaults
    from echo_proxy.transfer.importing import ImportCommand

    return ImportCommand(
        source=options.file,
        claims=Claims(options.scope, options.writer, options.trusted, options.fresh),
        defaults=Defaults(
            scope=options.scope,
            teacher=options.teacher,
            quality=options.quality,
            system=options.system,
            wants_json=options.json_answers,
        ),
        skip_bad=options.skip_bad,
        is_resumed=options.resume,
        replaces=options.replace,
        reembeds=options.reembed,
    )


def _tell(done: "Imported", options: argparse.Namespace) -> None:
    if options.json:
        names = ("n_kept", "n_there", "n_embedded", "n_bad", "resumed_at", "seconds")
        found = {name: getattr(done, name) for name in names}
        print(
            json.dumps({**found, "unfit": dict(done.unfit), "found": dict(done.found), "reasons": list(done.reasons)})
        )
        return
    print(f"imported {done.n_kept:,} examples in {done.seconds:.1f} s, {done.n_embedded:,} of them embedded")
    lines = (
        (done.resumed_at, f"began behind line {done.resumed_at:,}"),
        (done.n_there, f"{done.n_there:,} left as they are in the store (--replace replaces them)"),
        (len(done.unfit), f"left out by the policy: {_counts(done.unfit)}"),
        (len(done.found), f"secrets and personal data found: {_counts(done.found)}"),
        (done.n_bad, f"{done.n_bad:,} wrong lines written to {options.skip_bad}"),
    )
    print("\n".join(f"  {words}" for is_so, words in lines if is_so), end="\n" if any(one[0] for one in lines) else "")
    for reason in done.reasons:
        print(f"  {reason}", file=sys.stderr)


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {n:,}" for name, n in sorted(counts.items()))
