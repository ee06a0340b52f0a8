"""How are policies played through under load, from a shell?"""

import argparse
from pathlib import Path

from echo_proxy.commands.arguments import RAW, Commands


def add(commands: Commands) -> None:
    """`echo-proxy simulate`."""
    parser = commands.add_parser(
        "simulate",
        help="what would policies do under load? Played through with measured service times; trains best_effort",
        formatter_class=RAW,
        description="Plays arrivals (a trace, or Poisson) against deployments of which the speed was measured: every\n"
        "arm by itself, chance, and the policies by their real code. Nothing is called. No trace carries text, so\n"
        "which request comes when is drawn: figures compare policies, they do not foretell your traffic.",
        epilog="examples:\n  echo-proxy simulate --arms deploy/examples/arms.yaml --rate 4 --deadline 20\n"
        "  echo-proxy simulate --arms arms.yaml --trace AzureLLMInferenceTrace_conv.csv --speedup 1.5 "
        "--policy policies/\n"
        "  echo-proxy simulate --arms arms.yaml --trace trace.csv --to 0.5 --deadline 20 --train best_effort.json",
    )
    parser.add_argument("--arms", type=Path, required=True, help="YAML: speed, slots, price and quality of every arm")
    parser.add_argument("--policy", type=Path, action="append", metavar="PATH", help="policy file or folder to try")
    parser.add_argument("--trace", type=Path, help="CSV of TIMESTAMP,ContextTokens,GeneratedTokens (default: Poisson)")
    parser.add_argument("--rate", type=float, default=1.0, help="Poisson arrivals per second (default: %(default)s)")
    parser.add_argument("--prompt-tokens", type=float, default=1000, help="of Poisson arrivals (default: %(default)s)")
    parser.add_argument("--completion-tokens", type=float, default=200, help="their mean (default: %(default)s)")
    parser.add_argument("--requests", type=int, help="how many (default: all of the trace, or 10,000)")
    parser.add_argument("--from", dest="start", type=float, default=0.0, help="share of the trace to begin at")
    parser.add_argument("--to", dest="end", type=float, default=1.0, help="share of the trace to end at")
    parser.add_argument("--speedup", type=float, default=1.0, help="arrivals so many times as fast (default: 1)")
    parser.add_argument("--deadline", type=float, help="seconds to the whole answer (default: the first policy's)")
    parser.add_argument(
        "--slack", type=float, default=0.0, help="a late answer's worth falls to 0 over so many seconds"
    )
    parser.add_argument("--feedback", type=float, default=1.0, help="share of answers that are judged (default: 1)")
    parser.add_argument("--seed", type=int, default=1, help="of everything that is drawn (default: %(default)s)")
    parser.add_argument("--train", type=Path, metavar="FILE", help="learn `bandit: {kind: best_effort, file: FILE}`")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.add_argument("--plot", type=Path, help="also plot the latencies into this file (.png, .svg, .pdf)")
    parser.set_defaults(command=_run)


def _run(options: argparse.Namespace) -> int:
    from echo_proxy.offline.simulate import SimulateOptions, run

    return run(
        SimulateOptions(
            arms=options.arms,
            policies=tuple(options.policy or ()),
            trace=options.trace,
            rate=options.rate,
            prompt_tokens=options.prompt_tokens,
            completion_tokens=options.completion_tokens,
            n=options.requests,
            start=options.start,
            end=options.end,
            speedup=options.speedup,
            deadline_s=options.deadline,
            slack_s=options.slack,
            feedback=options.feedback,
            seed=options.seed,
            train=options.train,
            json_path=options.json,
            plot_path=options.plot,
        )
    )
