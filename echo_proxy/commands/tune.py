"""How are the best options of a local model looked for, from a shell?"""

import argparse
from pathlib import Path

from echo_proxy.commands.arguments import RAW, Commands
from echo_proxy.tune.units import n_bytes, seconds, whole


def add(commands: Commands) -> None:
    """`echo-proxy tune`."""
    parser = commands.add_parser(
        "tune",
        help="find the options with which this machine serves a GGUF best, and write them for LiteLLM",
        formatter_class=RAW,
        description="Serves the model with one set of options after the other, each in a process of its own, and asks\n"
        "it texts made of its own words, in turn with the best so far: only what is faster beyond the noise replaces\n"
        "it. Threads, batches, seats, cells, drafts, flash attention, GPU layers and the quantisations at hand are\n"
        "tried, within the memory. Prints the winner as an item for LiteLLM's model_list.",
        epilog="examples:\n  echo-proxy tune model-q8_0.gguf\n"
        "  echo-proxy tune model-q8_0.gguf model-q4_k_m.gguf --goal throughput --concurrency 16 --memory 8G\n"
        "  echo-proxy tune large.gguf --siblings --draft small.gguf --budget 10m --out litellm.yaml\n\n"
        "exit status: 0 done, also when the time was over; 1 refused with a reason, 2 wrong usage, 130 interrupted, "
        "with\nwhat was known by then",
    )
    parser.add_argument("paths", type=Path, nargs="+", metavar="model.gguf", help="one model; several quantisations")
    parser.add_argument(
        "--goal",
        choices=("latency", "throughput"),
        default="latency",
        help="latency: median time to a whole answer; throughput: tokens per second (default: %(default)s)",
    )
    parser.add_argument(
        "--concurrency", type=whole(1, 64), metavar="N", help="requests at once (default: 1 for latency, else 8)"
    )
    parser.add_argument("--memory", type=n_bytes, metavar="SIZE", help="such as 8G (default: nine tenths of the free)")
    parser.add_argument("--prompt-tokens", type=whole(2, 10**6), default=300, help="of a request (default: 300)")
    parser.add_argument("--answer-tokens", type=whole(1, 10**6), default=100, help="of a request (default: 100)")
    parser.add_argument("--budget", type=seconds, default=120.0, metavar="TIME", help="such as 5m (default: 120s)")
    parser.add_argument("--max-threads", type=whole(1, 1024), metavar="N", help="most threads that are tried")
    parser.add_argument("--ctx", type=whole(16, 10**7), metavar="N", help="n_ctx (default: the model's, at most 4096)")
    parser.add_argument("--draft", type=Path, metavar="GGUF", help="a smaller model with the same tokens, to guess")
    parser.add_argument("--siblings", action="store_true", help="also try other quantisations beside the file")
    parser.add_argument("--allow-lossy-kv", action="store_true", help="a quantised cache, which changes texts, may win")
    parser.add_argument("--out", type=Path, metavar="YAML", help="also write the winner to this file")
    parser.add_argument("--force", action="store_true", help="--out may be overwritten")
    parser.add_argument("--json", action="store_true", help="JSON on stdout instead of the table")
    parser.set_defaults(command=_run)


def _run(options: argparse.Namespace) -> int:
    from echo_proxy.tune.run import TuneCommand, tune

    return tune(
        TuneCommand(
            paths=tuple(options.paths),
            goal=options.goal,
            concurrency=options.concurrency,
            n_memory_bytes=options.memory,
            n_prompt_tokens=options.prompt_tokens,
            n_answer_tokens=options.answer_tokens,
            budget_s=options.budget,
            max_threads=options.max_threads,
            n_ctx=options.ctx,
            draft=options.draft,
            with_siblings=options.siblings,
            allows_lossy=options.allow_lossy_kv,
            out=options.out,
            overwrites=options.force,
            is_json=options.json,
        )
    )
