"""What does writing together cost, and what does it bring? Big Little Decoder over its two thresholds.

    python -m bench.engine.bild [--path large.gguf] [--requests 80] [--out bench/engine/bild.png]

The large model alone, with the small one as a draft model (the same text), and both writing together: the small one
hands over where its likeliest token is less likely than `fallback`, and its tokens are undone from the first on that
has -log p > `rollback` in the large one; `gate` is a logistic model in place of `fallback`, fitted to the agreement
on other requests. Half of the requests are about what only the large model knows, half the small one knows too.
Speed is tokens/s over the large model alone in turns with it; agreement is the share of texts that are the large
model's own; the gap is by how much the large model finds the texts less likely than its own, in perplexity.
"""

import argparse
import math
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.engine.local_engine import Timed, ask, engine
from echo_proxy.demo.setup import PAIR
from echo_proxy.demo.world import Item, Relation, correct, easy_item, make_world
from echo_proxy.engine.gate import read_agreements
from echo_proxy.engine.gate_fit import GateFit, fit_gate
from echo_proxy.engine.runner import Run
from echo_proxy.engine.verify import surprise
from echo_proxy.llama.load import load_runner
from echo_proxy.local.options import parse_model

_FALLBACKS = (0.3, 0.6, 0.8, 0.9, 0.97, 2.0)
_ROLLBACKS = (0.0, 1.0, 3.0, 5.0, 10.0)
_SPLIT = 4
"""Turns that each setting takes with the large model alone."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One way to write."""

    name: str
    drafting: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Figures:
    """What one way brings."""

    name: str
    speed: float
    """Tokens per second over the large model's."""
    agreement: float
    quality: float
    perplexity_gap: float
    """Of the large model on these texts, less that on its own."""
    little_share: float
    """Tokens that the small model wrote."""


def main() -> None:
    """Compare and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--path", type=Path, default=PAIR / "large-q8_0.gguf")
    parser.add_argument("--little", type=Path, default=PAIR / "small-q8_0.gguf")
    parser.add_argument("--requests", type=int, default=80)
    parser.add_argument("--out", type=Path, help="where the plot goes")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found, fit = run(args.path, args.little, args.requests, Path(folder))
    show(args.path.name, found, fit)
    if args.out:
        plot(found, args.out)


def run(path: Path, little: Path, n: int, folder: Path) -> tuple[Sequence[Figures], GateFit]:
    """Figures of all settings, and the gate's own."""
    common = {"path": str(path), "n_ctx": 512, "n_threads": 1, "n_threads_batch": 1, "min_rows": 2, "prefix_ram_mb": 0}
    fit = fit_gate(_agreements(common, little, folder), most_disagreement=0.02)
    fit.gate.save(folder / "gate.json")
    items = make_items(n, seed=1)
    with engine({**common, "drafting": {"kind": "none"}}) as alone, Scorer(common) as scorer:
        ask(alone, bodies(items))
        own = ask(alone, bodies(items))
        base = scorer.mean(items, own)
        found = [_figures("large alone", items, own, own, 1.0, base, base)]
        for setting in settings(little, folder / "gate.json"):
            with engine({**common, "drafting": setting.drafting}) as other:
                ask(other, bodies(items[:8]))
                texts, speed = _race(alone, other, bodies(items))
            found.append(_figures(setting.name, items, texts, own, speed, scorer.mean(items, texts), base))
    return found, fit


def settings(little: Path, gate: Path) -> list[Setting]:
    """Everything that is compared with the large model alone."""
    path = str(little)
    rows = [Setting("draft model", {"kind": "model", "path": path})]
    for fallback in _FALLBACKS:
        for rollback in _ROLLBACKS:
            drafting = {"kind": "co_decode", "path": path, "fallback": fallback, "rollback": rollback}
            rows.append(Setting(f"fallback {fallback:g}, rollback {rollback:g}", drafting))
    for rollback in _ROLLBACKS:
        drafting = {"kind": "co_decode", "path": path, "gate": str(gate), "rollback": rollback}
        rows.append(Setting(f"gate, rollback {rollback:g}", drafting))
    return rows


def _agreements(common: Mapping[str, Any], little: Path, folder: Path) -> Any:
    """Of both models on other requests, with everything that the small one writes shown to the large one."""
    log = folder / "agreement.jsonl"
    drafting = {"kind": "co_decode", "path": str(little), "fallback": 0.0, "rollback": 0.0, "agreement": str(log)}
    with engine({**common, "drafting": drafting}) as both:
        ask(both, bodies(make_items(400, seed=2)), n_clients=4)
    return read_agreements(log)


def _race(alone: Any, other: Any, asked: Sequence[Mapping[str, Any]]) -> tuple[Timed, float]:
    """The other's answers, and its tokens/s over those of the large model alone, both in turns."""
    parts = [asked[i::_SPLIT] for i in range(_SPLIT)]
    runs = [(ask(alone, part), ask(other, part)) for part in parts]
    seconds, tokens = (
        [sum(one[i].seconds for one in runs) for i in (0, 1)],
        [sum(one[i].n_tokens for one in runs) for i in (0, 1)],
    )
    answers: list[Any] = [None] * len(asked)
    for i, (_, one) in enumerate(runs):
        answers[i::_SPLIT] = one.answers
    return Timed(tuple(answers), seconds[1]), (tokens[1] / seconds[1]) / (tokens[0] / seconds[0])


def _figures(
    name: str, items: Sequence[Item], texts: Timed, own: Timed, speed: float, surprise: float, base: float
) -> Figures:
    pairs = list(zip(texts.answers, own.answers, strict=True))
    accepted = sum(one.usage.n_accepted_tokens for one in texts.answers)
    return Figures(
        name,
        speed,
        sum(one.text == other.text for one, other in pairs) / len(pairs),
        sum(correct(item, one.text) for item, one in zip(items, texts.answers, strict=True)) / len(items),
        math.exp(surprise) - math.exp(base),
        accepted / texts.n_tokens,
    )


class Scorer:
    """The large model as a judge of how likely texts are."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._loaded = load_runner(parse_model("scorer", dict(options)).options)

    def __enter__(self) -> "Scorer":
        return self

    def __exit__(self, *_: object) -> None:
        self._loaded.close()

    def mean(self, items: Sequence[Item], texts: Timed) -> float:
        """-log p of a token of these answers, nats."""
        told = [s for item, one in zip(items, texts.answers, strict=True) for s in self._of(item, one.text)]
        return sum(told) / len(told)

    def _of(self, item: Item, text: str) -> list[float]:
        runner, language = self._loaded.runner, self._loaded.language
        prompt = language.prompt([{"role": "user", "content": item.question}]).tokens
        answer = language.tokenize(text)
        runner.decode([Run((*prompt, *answer), 0, (0,), len(answer) + 1)])
        rows = range(len(prompt) - 1, len(prompt) + len(answer) - 1)
        told = [surprise(runner.logits(row), token) for row, token in zip(rows, answer, strict=True)]
        runner.cut(0, 0)
        return told


def make_items(n: int, seed: int) -> list[Item]:
    """Half of them only the large model can answer."""
    world, rng = make_world(), Random(seed)
    rare = [world.fact(rng.choice(world.rare), rng.choice(list(Relation)), rng.randrange(3)) for _ in range(n // 4)]
    about = [world.about(rng.choice(world.rare), 0) for _ in range(n // 4)]
    famous = [world.fact(rng.choice(world.famous), rng.choice(list(Relation)), rng.randrange(3)) for _ in range(n // 4)]
    items = [*rare, *about, *famous, *(easy_item(rng) for _ in range(n // 4))]
    rng.shuffle(items)
    return items


def bodies(items: Sequence[Item]) -> list[Mapping[str, Any]]:
    """Greedy requests."""
    return [
        {"messages": [{"role": "user", "content": one.question}], "temperature": 0, "max_tokens": 120} for one in items
    ]


def show(model: str, found: Sequence[Figures], fit: GateFit) -> None:
    """One row for each way to write, and a line on the gate."""
    table = Table(title=f"{model} with the small model, one thread, one client")
    for name in ("", "speed", "texts as the large one's", "quality", "perplexity gap", "written by the small one"):
        table.add_column(name, justify="right" if name else "left")
    for one in found:
        numbers = (one.speed, one.agreement, one.quality, one.perplexity_gap, one.little_share)
        table.add_row(one.name, *(f"{number:.3f}" for number in numbers))
    Console().print(table)
    print(
        f"gate: AUC {fit.auc:.3f} (the likeliest token's chance alone {fit.chance_auc:.3f}) on {fit.n_rows} tokens, "
        f"keeps {fit.share_kept:.3f} at {fit.disagreement:.3f} disagreement "
        f"(chance alone keeps {fit.chance_share_kept:.3f})"
    )


def plot(found: Sequence[Figures], path: Path) -> None:
    """Speed over agreement."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.5, 5))
    axes = figure.subplots()
    for prefix, marker in (("fallback", "o"), ("gate", "s"), ("draft model", "^"), ("large", "*")):
        some = [one for one in found if one.name.startswith(prefix)]
        axes.scatter([one.agreement for one in some], [one.speed for one in some], marker=marker, label=prefix)
    axes.set_xlabel("texts that are the large model's own")
    axes.set_ylabel("tokens/s over the large model alone")
    axes.legend()
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
