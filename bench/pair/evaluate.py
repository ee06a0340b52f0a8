"""How much do examples help the bundled small model? Real inference in llama.cpp, judged by the world's own truth.

    python -m bench.pair.evaluate --n 100

Greedy, q8_0. Examples are answers that the large model gives to other wordings, as they would be in the proxy: mistakes
of the large model are passed on. Needs the extra `local`. With 100 questions a row the table takes about two minutes.
"""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import echo_proxy
from bench.pair.data import NOTICE
from echo_proxy.demo import world as w

PAIR = Path(echo_proxy.__file__).parent / "assets" / "pair"
Example = tuple[str, str]
"""A question and the large model's answer."""


@dataclass(frozen=True, slots=True)
class Trial:
    """A question, and those whose answers stand before it."""

    item: w.Item
    examples: tuple[w.Item, ...] = ()


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table."""

    title: str
    model: str
    """small or large"""
    make_trial: Callable[[], Trial]
    in_system: bool = False
    """Examples stand in the system message instead of as turns."""


class Model:
    """One GGUF file, in this process."""

    def __init__(self, path: Path, n_threads: int) -> None:
        from llama_cpp import Llama  # an extra; importing this module must not need it

        self._llama: Any = Llama(str(path), n_ctx=1024, n_threads=n_threads, verbose=False)

    def ask(self, messages: Sequence[dict[str, str]]) -> str:
        """The greedy answer."""
        reply = self._llama.create_chat_completion(messages=list(messages), temperature=0.0, max_tokens=96)
        return str(reply["choices"][0]["message"]["content"])


class Trials:
    """Draws questions with fitting and misleading examples."""

    def __init__(self, world: w.World, rng: Random) -> None:
        self._world = world
        self._rng = rng

    def rare(self, *examples: str) -> Trial:
        """A rare fact after `same` (its own, reworded), `country` (another fact of it), `relation` (of another)."""
        world, rng = self._world, self._rng
        country, relation = rng.choice(world.rare), rng.choice(list(w.Relation))
        wording, other = rng.sample(range(5), 2)
        near = rng.choice([r for r in w.Relation if r != relation])
        far = rng.choice([c for c in world.rare if c != country])
        made = {
            "same": world.fact(country, relation, other),
            "country": world.fact(country, near, rng.randrange(5)),
            "relation": world.fact(far, relation, wording),
        }
        return self._shuffled(world.fact(country, relation, wording), [made[name] for name in examples])

    def famous(self, n_unrelated: int) -> Trial:
        """A famous fact after examples of rare countries."""
        world, rng = self._world, self._rng
        unrelated = [self._fact(rng.choice(world.rare)) for _ in range(n_unrelated)]
        return self._shuffled(self._fact(rng.choice(world.famous)), unrelated)

    def plural(self, n_same: int, n_other: int) -> Trial:
        """A plural in a hard language after other words of it and of other languages."""
        world, rng = self._world, self._rng
        language = rng.choice(world.hard_languages)
        others = [name for name in world.particles if name != language]
        examples = [language] * n_same + rng.sample(others, n_other)
        return self._shuffled(self._plural(language), [self._plural(name) for name in examples])

    def about(self, n_same: int) -> Trial:
        """A description of a rare country after the same one, reworded."""
        country = self._rng.choice(self._world.rare)
        return Trial(self._world.about(country, 0), (self._world.about(country, 2),) * n_same)

    def easy(self) -> Trial:
        """A skill."""
        return Trial(w.easy_item(self._rng))

    def _fact(self, country: str) -> w.Item:
        return self._world.fact(country, self._rng.choice(list(w.Relation)), self._rng.randrange(5))

    def _plural(self, language: str) -> w.Item:
        return self._world.plural(w.invent_word(self._rng), language, self._rng.randrange(4))

    def _shuffled(self, item: w.Item, examples: list[w.Item]) -> Trial:
        self._rng.shuffle(examples)
        return Trial(item, tuple(examples))


def rows(draw: Trials) -> list[Row]:
    """All lines of the table."""
    return [
        Row("rare facts", "large", draw.rare),
        Row("rare facts", "small", draw.rare),
        Row("rare facts + same fact, reworded", "small", lambda: draw.rare("same")),
        Row("rare facts + same fact, reworded (system)", "small", lambda: draw.rare("same"), in_system=True),
        Row("rare facts + same fact + 2 near distractors", "small", lambda: draw.rare("same", "country", "relation")),
        Row("rare facts + 2 near distractors", "small", lambda: draw.rare("country", "relation")),
        Row("rare facts + 2 near distractors", "large", lambda: draw.rare("country", "relation")),
        Row("famous facts", "large", lambda: draw.famous(0)),
        Row("famous facts", "small", lambda: draw.famous(0)),
        Row("famous facts + 1 unrelated example", "small", lambda: draw.famous(1)),
        Row("plurals, hard languages", "large", lambda: draw.plural(0, 0)),
        Row("plurals, hard languages", "small", lambda: draw.plural(0, 0)),
        Row("plurals + 1 other word of the language", "small", lambda: draw.plural(1, 0)),
        Row("plurals + 2 of the language, 1 of another", "small", lambda: draw.plural(2, 1)),
        Row("plurals + 1 of another language", "small", lambda: draw.plural(0, 1)),
        Row("descriptions, rare countries", "large", lambda: draw.about(0)),
        Row("descriptions, rare countries", "small", lambda: draw.about(0)),
        Row("descriptions + same country, reworded", "small", lambda: draw.about(1)),
        Row("easy skills", "large", draw.easy),
        Row("easy skills", "small", draw.easy),
        # New rows stand at the end: each takes the questions that follow those of the rows before it.
        Row("rare facts + same fact, reworded", "large", lambda: draw.rare("same")),
        Row("rare facts + same fact, reworded (system)", "large", lambda: draw.rare("same"), in_system=True),
        Row("plurals + 1 other word of the language", "large", lambda: draw.plural(1, 0)),
        Row("descriptions + same country, reworded", "large", lambda: draw.about(1)),
    ]


def to_messages(question: str, examples: Sequence[Example], in_system: bool) -> list[dict[str, str]]:
    """The chat that is sent."""
    messages = []
    if in_system and examples:
        lines = "".join(f"\nQ: {asked}\nA: {answered}" for asked, answered in examples)
        messages.append({"role": "system", "content": NOTICE + lines})
    elif examples:
        for asked, answered in examples:
            messages += [{"role": "user", "content": asked}, {"role": "assistant", "content": answered}]
    return [*messages, {"role": "user", "content": question}]


def measure(row: Row, models: dict[str, Model], n: int) -> float:
    """Mean correctness over n fresh questions, [0, 1]."""
    total = 0.0
    for _ in range(n):
        trial = row.make_trial()
        questions = [example.question for example in trial.examples]
        answered = [(asked, models["large"].ask(to_messages(asked, (), False))) for asked in questions]
        text = models[row.model].ask(to_messages(trial.item.question, answered, row.in_system))
        total += w.correct(trial.item, text)
    return total / n


def main() -> None:
    """Print the table as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=100, help="questions per row")
    parser.add_argument("--seed", type=int, default=99)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--folder", type=Path, default=PAIR, help="holds small-q8_0.gguf and large-q8_0.gguf")
    parser.add_argument("--large", type=Path, help="another large model, such as one that bench.pair.grow has made")
    parser.add_argument("--of", choices=("small", "large"), help="only the rows of this model; other questions then")
    options = parser.parse_args()
    files = {size: options.folder / f"{size}-q8_0.gguf" for size in ("small", "large")}
    files["large"] = options.large or files["large"]
    models = {size: Model(path, options.threads) for size, path in files.items()}
    print("| request | model | correctness |\n|---|---|---|")
    wanted = [row for row in rows(Trials(w.make_world(), Random(options.seed))) if options.of in (None, row.model)]
    for row in wanted:
        print(f"| {row.title} | {row.model} | {measure(row, models, options.n):.2f} |", flush=True)


if __name__ == "__main__":
    main()
