"""Does Echo answer as well as the large model, about as fast as the small one?

    python -m bench.claim --through pipeline --large models/xl.gguf --json claim.json --plot claim.png

Four ways to serve, one after the other on the same requests: large only, small only, the small one with the nearest
example, and Echo, which learns from what its callers say. Each level plays arrivals of the Azure conversation trace;
`saturated` has callers who never pause. Questions are those of the pair's world, judged by its own truth.

**Before it is measured** every way answers the same warm-up requests. Echo starts them knowing nothing; the nearest
example's store is filled with the large model's answers to them. Figures without the warm-up and with it both stand in
the table. **Cores:** by default both models share one core and all else another, so that no way has more to compute
with than another. Needs the extras `local`, `embedded` and, for the plot, `plots`.
"""

import argparse
import asyncio
import json
import logging
import os
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

from rich.console import Console

from bench.claim.figures import goals, to_json
from bench.claim.measure import Result, Setup, measure
from bench.claim.tables import show, show_goals
from bench.claim.ways import ECHO, ECHO_POLICY, Models

_PAIR = Models()


def main() -> None:
    """Print the tables."""
    options = _options()
    logging.getLogger("httpx").setLevel(logging.WARNING)
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # the embedder's: two threads on a shared core wait for each other
    models = Models(options.small, options.large, json.loads(options.llama_cpp))
    setup = Setup(
        through=options.through,
        models=models,
        echo_policy=options.policy,
        trace=options.data / "azure_llm_2023" / "AzureLLMInferenceTrace_conv.csv",
        cores=options.cores,
        n_warm_up=options.warm_up,
        n_topics=options.topics,
        level_s=options.seconds,
        feedback=options.feedback,
        n_clients=options.clients,
        seed=options.seed,
    )
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        result = asyncio.run(measure(setup, Path(folder)))
    _tell(result, options, time.monotonic() - started)


def _tell(result: Result, options: argparse.Namespace, took_s: float) -> None:
    found, console = to_json(result), Console(width=160)
    saturated = found["levels"]["saturated"]
    levels = {name: level for name, level in found["levels"].items() if name != "saturated"}
    for name, level in found["levels"].items():
        before = level[ECHO.name]["asked_before_pct"]
        show(f"{name}, through the {options.through}; asked before in other words: {before:.0f} %", level, console)
    measured = goals(levels, saturated)
    show_goals(measured, console)
    console.print(f"warm-up: {found['warm_up']}; {took_s:.0f} s in all")
    if options.json:
        given = {name: str(value) for name, value in vars(options).items()}
        kept = {"options": given, **found, "goals": {name: asdict(goal) for name, goal in measured.items()}}
        options.json.write_text(json.dumps(kept, indent=1), encoding="utf-8")
    if options.plot:
        from bench.claim.plot import draw  # an extra; the figures do not need it

        draw(options.plot, levels, saturated)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--through", choices=("pipeline", "proxy"), default="pipeline")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder of azure_llm_2023")
    parser.add_argument("--small", type=Path, default=_PAIR.small)
    parser.add_argument("--large", type=Path, default=_PAIR.large)
    parser.add_argument("--policy", type=Path, default=ECHO_POLICY, help="over echo-small and echo-large")
    parser.add_argument("--llama-cpp", default="{}", help="more of model_info.llama_cpp for both models, as JSON")
    parser.add_argument("--cores", choices=("shared", "apart", "free"), default="shared", help="of the two models")
    parser.add_argument("--warm-up", type=int, default=800, help="requests")
    parser.add_argument("--topics", type=int, default=80, help="rare facts that are asked for")
    parser.add_argument("--seconds", type=float, default=20.0, help="of each way at each level")
    parser.add_argument("--feedback", type=float, default=1.0, help="share of answers that callers judge")
    parser.add_argument("--clients", type=int, default=32, help="of the saturated runs")
    parser.add_argument("--seed", type=int, default=20)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    main()
