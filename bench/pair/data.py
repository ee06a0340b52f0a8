"""What do the two models see in training? Chats whose answers they are able to know, from memory or from examples.

Only such answers are targets. The small model is shown rare facts solely as examples in the prompt, so it learns to
read examples instead of guessing; the large model is taught everything and sees examples now and then.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from echo_proxy.demo import world as w

Size = Literal["small", "large"]
Ask = Callable[[], w.Item]
"""Makes another question with the same truth behind it."""

NOTICE = "Use these examples if they help."
_SHARE_WITH_EXAMPLES: dict[Size, float] = {"small": 0.75, "large": 0.15}


class Encoder(Protocol):
    """What training needs of a tokenizer."""

    end_of_text: int

    def encode(self, text: str) -> list[int]:
        """Tokens of a text."""
        ...

    def header(self, role: str) -> list[int]:
        """Tokens that open a turn."""
        ...

    def footer(self) -> list[int]:
        """Tokens that close a turn."""
        ...


@dataclass(frozen=True, slots=True)
class Batch:
    """Sequences for one step of training."""

    inputs: NDArray[np.int64]
    """Tokens, shape (n_sequences, length)."""
    targets: NDArray[np.int64]
    """Next tokens at `positions`, shape (n_targets,)."""
    positions: NDArray[np.int64]
    """Where a target follows, as indices into the flattened inputs, shape (n_targets,)."""


def any_wording(rng: Random, phrases: w.Phrases) -> int:
    """A random wording of the phrases."""
    return rng.randrange(len(phrases.questions))


class Chats:
    """An endless supply of training chats for a model of one size."""

    def __init__(self, size: Size, encoder: Encoder, length: int, seed: int) -> None:
        self._size = size
        self._encoder = encoder
        self._length = length
        self._rng = Random(seed)
        self._world = w.make_world()

    def batch(self, n_sequences: int) -> Batch:
        """The next sequences."""
        pairs = [self._sequence() for _ in range(n_sequences)]
        ids = np.array([pair[0] for pair in pairs], np.int64)  # (n_sequences, length + 1)
        is_target = np.array([pair[1] for pair in pairs], np.bool_)  # (n_sequences, length + 1)
        positions = np.flatnonzero(is_target[:, 1:])  # (n_targets,)
        return Batch(ids[:, :-1], ids[:, 1:].reshape(-1)[positions], positions)

    def _sequence(self) -> tuple[list[int], list[bool]]:
        """Tokens and whether each is a target, both cut or filled to length + 1."""
        chat = Chat(self._encoder)
        shown = self._show_examples(chat) if self._rng.random() < _SHARE_WITH_EXAMPLES[self._size] else []
        while len(chat.ids) < self._length:
            # Four of five questions are about what was shown, so that reading examples is what pays.
            is_about_shown = bool(shown) and self._rng.random() < 0.8
            chat.add_turn(self._rng.choice(shown)() if is_about_shown else self._ask_known(), is_target=True)
        n_missing = max(0, self._length + 1 - len(chat.ids))
        ids = chat.ids + [self._encoder.end_of_text] * n_missing
        return ids[: self._length + 1], (chat.is_target + [False] * n_missing)[: self._length + 1]

    def _show_examples(self, chat: "Chat") -> list[Ask]:
        asks = self._invent(self._rng.randint(1, 5))
        if self._rng.random() < 0.4:
            chat.add_notice([ask() for ask in asks])
        else:
            for ask in asks:
                chat.add_turn(ask(), is_target=False)
        return asks

    def _invent(self, n: int) -> list[Ask]:
        """Questions with an invented truth, which only the prompt can tell."""
        rng = self._rng
        asks = []
        country, facts = w.invent_country(rng), w.invent_facts(rng)
        for _ in range(n):
            draw = rng.random()
            if draw < 0.25:
                asks.append(self._plurals(w.invent_language(rng), w.invent_syllable(rng)))
                continue
            # Half of the facts stay with the country before: examples that look right and are not.
            if draw < 0.33 or rng.random() < 0.5:
                country, facts = w.invent_country(rng), w.invent_facts(rng)
            asks.append(self._abouts(country, facts) if draw < 0.33 else self._facts(country, facts))
        return asks

    def _ask_known(self) -> w.Item:
        """A question whose answer a model of this size is meant to know by heart."""
        is_large, world, rng = self._size == "large", self._world, self._rng
        until_fact, until_about, until_plural = (0.70, 0.82, 0.93) if is_large else (0.40, 0.50, 0.70)
        draw = rng.random()
        if draw < until_about:
            country = rng.choice((world.famous + world.rare) if is_large else world.famous)
            make = self._facts if draw < until_fact else self._abouts
            return make(country, world.facts[country])()
        if draw < until_plural:
            language = rng.choice(world.easy_languages + (world.hard_languages if is_large else ()))
            return self._plurals(language, world.particles[language])()
        return w.easy_item(rng)

    def _facts(self, country: str, facts: Mapping[w.Relation, str]) -> Ask:
        relation = self._rng.choice(list(w.Relation))
        phrases = w.FACT_PHRASES[relation]
        return lambda: w.fact_item(country, relation, facts[relation], any_wording(self._rng, phrases))

    def _abouts(self, country: str, facts: Mapping[w.Relation, str]) -> Ask:
        return lambda: w.about_item(country, facts, any_wording(self._rng, w.ABOUT_PHRASES))

    def _plurals(self, language: str, particle: str) -> Ask:
        def ask() -> w.Item:
            wording = any_wording(self._rng, w.PLURAL_PHRASES)
            return w.plural_item(w.invent_word(self._rng), language, particle, wording)

        return ask


class Chat:
    """Tokens of one chat as it grows, with a mark on those that the model must learn to say."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self.ids: list[int] = []
        self.is_target: list[bool] = []

    def add_turn(self, item: w.Item, is_target: bool) -> None:
        """A question and its answer; the answer and the stop token are targets when wanted."""
        encoder = self._encoder
        question = [*encoder.header("user"), *encoder.encode(item.question), *encoder.footer()]
        self._add([*question, *encoder.header("assistant")], is_target=False)
        stop, *line_break = encoder.footer()
        self._add([*encoder.encode(item.answer), stop], is_target)
        self._add(line_break, is_target=False)

    def add_notice(self, items: Sequence[w.Item]) -> None:
        """A system message that holds examples."""
        lines = [f"\nQ: {item.question}\nA: {item.answer}" for item in items]
        text = [token for part in (NOTICE, *lines) for token in self._encoder.encode(part)]
        self._add([*self._encoder.header("system"), *text, *self._encoder.footer()], is_target=False)

    def _add(self, ids: Sequence[int], is_target: bool) -> None:
        self.ids += ids
        self.is_target += [is_target] * len(ids)
