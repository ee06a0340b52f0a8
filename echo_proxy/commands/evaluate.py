"""How is a new policy judged by the log, from a shell?"""

import argparse
import asyncio
from pathlib import Path

from echo_proxy.commands.arguments import RAW, Commands


def add(commands: Commands) -> None:
    """`echo-proxy evaluate`."""
    parser = commands.add_parser(
        "evaluate",
        help="would a new policy do better? Judged by the log, before it is switched on",
        formatter_class=RAW,
        description="Goes through the decisions that the running proxy has logged, asks what the new policy would\n"
        "have drawn in each, and weighs the outcomes accordingly. Says switch, keep, not proven, or that the\n"
        "log cannot answer. Nothing is called, nothing in the store is changed.",
        epilog="examples:\n  echo-proxy evaluate --policy new.yaml\n"
        "  echo-proxy evaluate --policy new.yaml --against policies/default.yaml --since 24h\n"
        "  echo-proxy evaluate --policy new.yaml --since 2026-01-31 --plot out.png --json > result.json\n\n"
        "exit status: 0 switch or keep, 1 refused with a reason, 2 wrong usage, 3 not proven yet, 4 the log cannot "
        "answer",
    )
    parser.add_argument("--policy", type=Path, required=True, metavar="FILE", help="the new policy")
    parser.add_argument(
        "--against",
        type=Path,
        metavar="FILE",
        help="the running policy, whose log is read and which is retraced likewise (default: the log of the policy "
        "that has the new one's name, as it was drawn)",
    )
    parser.add_argument("--since", help="judge decisions since then: 30m, 24h, 7d or an ISO date; earlier ones teach")
    parser.add_argument("--limit", type=int, metavar="N", help="judge the newest N decisions; earlier ones teach")
    parser.add_argument(
        "--quality",
        choices=("judged", "all"),
        default="judged",
        help="judged: answers that feedback, a judge or a failed validator has judged stand for the others of their "
        "arm; all: an answer that nobody judged counts as good as validators found it (default: %(default)s)",
    )
    parser.add_argument(
        "--estimator",
        choices=("dr", "snips", "ips"),
        default="dr",
        help="doubly robust, self-normalised or plain inverse propensity scoring (default: %(default)s)",
    )
    parser.add_argument("--clip", type=float, metavar="W", help="limit of the weights; the bias is told")
    parser.add_argument("--seed", type=int, default=0, help="of the bootstrap (default: %(default)s)")
    parser.add_argument("--plot", type=Path, metavar="PNG", help="also draw it (needs the extra `plots`)")
    parser.add_argument("--json", action="store_true", help="JSON on stdout instead of tables")
    parser.set_defaults(command=_run)


def _run(options: argparse.Namespace) -> int:
    from echo_proxy.evaluate import EvaluateCommand, evaluate
    from echo_proxy.offline.evaluation import EvaluateOptions

    return asyncio.run(
        evaluate(
            EvaluateCommand(
                policy=options.policy,
                against=options.against,
                since=options.since,
                limit=options.limit,
                options=EvaluateOptions(options.estimator, options.quality, options.clip, options.seed),
                plot=options.plot,
                is_json=options.json,
            )
        )
    )
