"""How are stored examples looked at and removed from a shell?"""

import argparse
import asyncio
import sys
from collections.abc import Awaitable, Callable
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from echo_proxy.commands.arguments import RAW, Commands, add_policy, policies
from echo_proxy.commands.which import add_which, which
from echo_proxy.tune.units import whole

if TYPE_CHECKING:
    from echo_proxy.commands.places import Place

_NOTHING = 3
"""Exit status when no example was meant."""
_STATUS = "\n\nexit status: 0 done, 1 refused with a reason, 2 wrong usage, 3 there is no such example"
_WIDTH = 160
"""Characters of a line that no terminal bounds."""
_Action = Callable[[argparse.Namespace, "Place"], Awaitable[int]]


def add(commands: Commands) -> None:
    """`echo-proxy examples`."""
    parser = commands.add_parser(
        "examples",
        help="look at stored examples, find words in them, remove them",
        formatter_class=RAW,
        description="Stored texts are data of strangers: what could steer a terminal is shown as escapes (\\x1b).",
        epilog="examples:\n  echo-proxy examples ls --sort offloads\n  echo-proxy examples show ID\n"
        "  echo-proxy examples grep 'api[-_ ]key' --ignore-case\n"
        "  echo-proxy examples rm --writer HASH --after 24h        # says what it would remove\n"
        "  echo-proxy examples rm --writer HASH --after 24h --yes\n  echo-proxy examples stats",
    )
    actions = parser.add_subparsers(required=True, metavar="action")
    for add_action in (_add_ls, _add_show, _add_grep, _add_rm, _add_stats):
        add_action(actions)


def _add_ls(actions: Commands) -> None:
    parser = _parser(actions, "ls", "list them, one a row", "ls --sort regret --limit 10")
    add_which(parser)
    orders = ("created", "offloads", "uses", "bytes", "regret")
    parser.add_argument("--sort", choices=orders, default="created", help="largest first (default: %(default)s)")
    parser.add_argument("--limit", type=whole(1, 100_000), default=50, metavar="N", help="(default: %(default)s)")
    parser.set_defaults(command=_runner(_ls))


def _add_show(actions: Commands) -> None:
    parser = _parser(actions, "show", "everything about one", "show 0193a1f2c4d5")
    parser.add_argument("id", metavar="ID")
    parser.set_defaults(command=_runner(_show))


def _add_grep(actions: Commands) -> None:
    parser = _parser(actions, "grep", "find a pattern in request, response and system prompt", "grep '(?i)password'")
    parser.add_argument("pattern", metavar="PATTERN", help="regular expression")
    parser.add_argument("--ignore-case", "-i", action="store_true")
    parser.add_argument("--fixed", "-F", action="store_true", help="PATTERN is a text, not an expression")
    parser.add_argument("--limit", type=whole(1, 10**6), default=1000, metavar="N", help="(default: %(default)s)")
    add_which(parser)
    parser.set_defaults(command=_runner(_grep))


def _add_rm(actions: Commands) -> None:
    parser = _parser(actions, "rm", "remove them, with their copies for wider scopes", "rm --text Zaphod --yes")
    parser.add_argument("ids", nargs="*", metavar="ID", help="these; else all that the options mean")
    add_which(parser)
    words = parser.add_mutually_exclusive_group()
    words.add_argument("--text", metavar="TEXT", help="only with this text in request, response or system prompt")
    words.add_argument("--regex", metavar="PATTERN", help="only with a match in them")
    parser.add_argument("--yes", action="store_true", help="do it; else it is only told what would be removed")
    parser.set_defaults(command=_runner(_rm))


def _add_stats(actions: Commands) -> None:
    parser = _parser(actions, "stats", "how many there are, of whom, how old", "stats --limit 10")
    add_which(parser)
    parser.add_argument("--limit", type=whole(1, 1000), default=20, metavar="N", help="rows a table")
    parser.set_defaults(command=_runner(_stats))


def _parser(actions: Commands, name: str, words: str, example: str) -> argparse.ArgumentParser:
    epilog = f"example:\n  echo-proxy examples {example}{_STATUS}"
    parser = actions.add_parser(name, help=words, formatter_class=RAW, epilog=epilog)
    add_policy(parser)
    parser.add_argument("--json", action="store_true", help="JSON on stdout")
    return parser


def _runner(action: _Action) -> Callable[[argparse.Namespace], int]:
    async def run(options: argparse.Namespace) -> int:
        from echo_proxy.commands.places import opened

        async with opened(policies(options)) as place:
            return await action(options, place)

    return lambda options: asyncio.run(run(options))


async def _ls(options: argparse.Namespace, place: "Place") -> int:
    from echo_proxy.browse.listing import largest, show_list, summary

    found = await largest(place.store, which(options), options.sort, options.limit)
    if options.json:
        _print_json([summary(one) for one in found])
    else:
        show_list(found, place.clock.now(), _console())
    return 0


async def _show(options: argparse.Namespace, place: "Place") -> int:
    from echo_proxy.browse.showing import show_example

    found = await place.store.get(options.id)
    if found is None:
        return _none(f"expected the id of a stored example, got {options.id!r}")
    if options.json:
        _print_json({**asdict(replace(found, vector=())), "vector": found.vector.tolist()}, indent=2)  # type: ignore[arg-type]
    else:
        show_example(found, place.clock.now(), _console())
    return 0


async def _grep(options: argparse.Namespace, place: "Place") -> int:
    from echo_proxy.browse.matching import grep, matcher, show_match

    wanted = matcher(options.pattern, ignores_case=options.ignore_case, is_fixed=options.fixed)
    console, n = _console(), 0
    async for match in grep(place.store, which(options), wanted):
        if options.json:
            text = getattr(match.example, match.field)
            _print_json({"id": match.example.id, "field": match.field, "spans": match.spans, "text": text})
        else:
            show_match(match, console)
        n += 1
        if n == options.limit:
            print(f"echo-proxy: stopped after {n:,} matches (--limit)", file=sys.stderr)
            break
    if wanted.n_slow:
        print(f"echo-proxy: {wanted.n_slow:,} texts were given up, the pattern takes too long", file=sys.stderr)
    return 0 if n else _NOTHING


async def _rm(options: argparse.Namespace, place: "Place") -> int:
    from echo_proxy.admission.purge import Wording
    from echo_proxy.browse.listing import show_list, summary
    from echo_proxy.browse.removing import find_removal, remove
    from echo_proxy.errors import InputError

    words = options.regex if options.regex is not None else options.text
    meant = which(options)
    if not options.ids and not words and meant == type(meant)():
        raise InputError("expected ids, or options that say which examples are meant, got none")
    if options.ids and (words or meant != type(meant)()):
        raise InputError("expected either ids or options that say which examples are meant, got both")
    wording = Wording(words, options.regex is not None) if words else None
    removal = await find_removal(place.store, options.ids, meant, wording)
    n_gone = await remove(place.store, removal) if options.yes else 0
    if options.json:
        first = [summary(one) for one in removal.first]
        _print_json({"n_meant": len(removal.ids), "n_removed": n_gone, "is_done": options.yes, "first": first})
    elif options.yes:
        print(f"removed {n_gone:,} examples, copies included")
    else:
        show_list(removal.first, place.clock.now(), _console())
        print(f"would remove {len(removal.ids):,} examples and their copies; --yes does it")
    return 0 if removal.ids else _NOTHING


async def _stats(options: argparse.Namespace, place: "Place") -> int:
    from echo_proxy.browse.statistics import gather, show_statistics

    found = await gather(place.store, which(options), place.clock.now(), place.policy.upkeep.max_bytes)
    if options.json:
        _print_json(found.as_json(), indent=2)
    else:
        show_statistics(found, options.limit, _console())
    return 0


def _console() -> Any:
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else _WIDTH)


def _print_json(value: Any, indent: int | None = None) -> None:
    from echo_proxy.browse.visible import as_json

    print(as_json(value, indent))


def _none(words: str) -> int:
    print(f"echo-proxy: {words}", file=sys.stderr)
    return _NOTHING
