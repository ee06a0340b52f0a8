"""How is a round of upkeep asked for, from a shell?"""

import argparse
import asyncio
from pathlib import Path

from echo_proxy.commands.arguments import RAW, Commands

_WORK = ("evict", "replay", "coverage")


def add(commands: Commands) -> None:
    """`echo-proxy upkeep`."""
    parser = commands.add_parser(
        "upkeep",
        help="one round of upkeep: drop what is too much, ask the teacher again, find what is asked often",
        formatter_class=RAW,
        description="Drops expired examples and those of least value beyond the byte budget; asks the teacher again\n"
        "for examples whose answers disappointed, and keeps the best answer; shows clusters of requests that are\n"
        "asked often and answered badly or expensively, and fills them where the policy says so. Within a budget,\n"
        "only while the teacher is idle, and only if no other process is at it. May be interrupted, also by kill -9:\n"
        "the next round goes on where this one ended.",
        epilog="examples:\n  echo-proxy upkeep --policy policies/default.yaml --dry-run\n"
        "  echo-proxy upkeep --policy policies/default.yaml --config litellm.yaml --usd 0.50 --seconds 300\n"
        "  echo-proxy upkeep --policy policies/default.yaml --only evict\n"
        "  echo-proxy upkeep --policy policies/default.yaml --config litellm.yaml --no-idle-wait --json > run.json\n\n"
        "exit status: 0 done, also when the budget is used up; 1 refused or failed with a reason, 2 wrong usage,\n"
        "3 another process is at it or has taken over, 130 interrupted",
    )
    parser.add_argument("--policy", type=Path, required=True, metavar="FILE", help="the policy whose store is kept")
    parser.add_argument("--config", type=Path, help="LiteLLM's config.yaml; needed where models are asked")
    parser.add_argument("--dry-run", action="store_true", help="ask nobody, write nothing, and say what would be done")
    parser.add_argument(
        "--only", type=_work, default=frozenset(_WORK), metavar="WORK", help=f"some of {','.join(_WORK)}"
    )
    parser.add_argument("--usd", type=float, help="what models may cost (default: the policy's usd_per_round)")
    parser.add_argument("--seconds", type=float, help="how long it may take (default: the policy's seconds_per_round)")
    parser.add_argument("--no-idle-wait", action="store_true", help="ask the teacher however busy it is")
    parser.add_argument("--json", action="store_true", help="JSON on stdout instead of tables")
    parser.set_defaults(command=_run)


def _work(text: str) -> frozenset[str]:
    named = {part.strip() for part in text.split(",") if part.strip()}
    unknown = sorted(named - set(_WORK))
    if unknown or not named:
        raise argparse.ArgumentTypeError(f"expected some of {','.join(_WORK)}, got {','.join(unknown) or 'nothing'}")
    return frozenset(named)


def _run(options: argparse.Namespace) -> int:
    from echo_proxy.commands.upkeep_round import UpkeepCommand, upkeep

    return asyncio.run(
        upkeep(
            UpkeepCommand(
                policy=options.policy,
                config=options.config,
                is_dry=options.dry_run,
                work=options.only,
                usd=options.usd,
                seconds=options.seconds,
                waits_for_idle=not options.no_idle_wait,
                is_json=options.json,
            )
        )
    )
