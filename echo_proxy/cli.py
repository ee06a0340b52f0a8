"""What can be done from a shell? `echo-proxy serve | demo | check | evaluate | simulate | doctor | ...`."""

import argparse
import asyncio
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from echo_proxy import __version__
from echo_proxy.errors import EchoProxyError
from echo_proxy.settings import read_settings
from echo_proxy.tune.units import n_bytes, seconds, share, whole

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
    for add in (
        _add_serve,
        _add_demo,
        _add_check,
        _add_evaluate,
        _add_simulate,
        _add_tune,
        _add_gate,
        _add_doctor,
        _add_reembed,
        _add_schema,
    ):
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


# ------------------------------------------------------------------ evaluate


def _add_evaluate(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = commands.add_parser(
        "evaluate",
        help="would a new policy do better? Judged by the log, before it is switched on",
        formatter_class=_RAW,
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
    parser.set_defaults(command=_evaluate)


def _evaluate(options: argparse.Namespace) -> int:
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


# ------------------------------------------------------------------ simulate


def _add_simulate(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = commands.add_parser(
        "simulate",
        help="what would policies do under load? Played through with measured service times; trains best_effort",
        formatter_class=_RAW,
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
    parser.set_defaults(command=_simulate)


def _simulate(options: argparse.Namespace) -> int:
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


# ------------------------------------------------------------------ tune, gate


def _add_tune(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = commands.add_parser(
        "tune",
        help="find the options with which this machine serves a GGUF best, and write them for LiteLLM",
        formatter_class=_RAW,
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
    parser.set_defaults(command=_tune)


def _tune(options: argparse.Namespace) -> int:
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


def _add_gate(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = commands.add_parser(
        "gate",
        help="fit when a smaller model that writes for a larger one (drafting: co_decode) hands over",
        formatter_class=_RAW,
        description="Fits a gate to a log of on which tokens two models agreed, and says what it is worth on the\n"
        "newest fifth of them, which it has not seen.",
        epilog="examples:\n  echo-proxy gate agreement.jsonl --out gate.json\n"
        "  echo-proxy gate agreement.jsonl --out gate.json --disagreement 0.02 --json",
    )
    parser.add_argument("agreements", type=Path, metavar="agreement.jsonl", help="the log, one token a line")
    parser.add_argument("--out", type=Path, required=True, metavar="JSON", help="where the gate is written")
    parser.add_argument(
        "--disagreement",
        type=share,
        default=0.05,
        metavar="SHARE",
        help="of the tokens that the smaller model writes, on which the larger may disagree (default: %(default)s)",
    )
    parser.add_argument("--json", action="store_true", help="JSON on stdout instead of the table")
    parser.set_defaults(command=_gate)


def _gate(options: argparse.Namespace) -> int:
    from echo_proxy.tune.gate import GateCommand, fit

    return fit(GateCommand(options.agreements, options.out, options.disagreement, options.json))


# ------------------------------------------------------------------ doctor, reembed, schema


def _add_doctor(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = commands.add_parser("doctor", help="say what this installation can do: llama.cpp, GPU, embedded Redis")
    parser.add_argument("--config", type=Path, help="LiteLLM's YAML: how much of its local models a GPU could hold")
    parser.set_defaults(command=_doctor)


def _doctor(options: argparse.Namespace) -> int:
    from echo_proxy.doctor import report

    print("\n".join(report(options.config)))
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
