"""How does text become tokens? A byte-level BPE of 1,024 tokens, trained on the phrases with ever new names.

Needs `tokenizers`. Names are drawn fresh for every line, so merges stop at syllables and no name becomes one token.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from random import Random

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from bench.pair.data import any_wording
from echo_proxy.demo import world as w

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
N_TOKENS = 1024
_N_LINES = 40_000
_PIECES = re.compile(r"'(?:s|t|re|ve|m|ll|d)| ?[A-Za-z]+| ?[0-9]+| ?[^\sA-Za-z0-9]+|\s+(?!\S)|\s+")
"""Splits as llama.cpp's `gpt-2` pre-tokenizer does, so that training and serving see the same tokens."""


class ChatTokenizer:
    """Encodes pieces of a chat; remembers pieces, because the synthetic text has few."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._known: dict[str, list[int]] = {}
        self.end_of_text, self._start, self._end = (self._id_of(token) for token in SPECIAL)
        self.n_tokens = self._tokenizer.get_vocab_size()

    def _id_of(self, token: str) -> int:
        found = self._tokenizer.token_to_id(token)
        if found is None:
            raise ValueError(f"tokenizer must hold the special token {token}, got one without it")
        return int(found)

    def encode(self, text: str) -> list[int]:
        """Tokens of a text without special ones."""
        ids: list[int] = []
        for piece in _PIECES.findall(text):
            if piece not in self._known:
                self._known[piece] = self._tokenizer.encode(piece, add_special_tokens=False).ids
            ids += self._known[piece]
        return ids

    def header(self, role: str) -> list[int]:
        """Tokens that open a turn of a role."""
        return [self._start, *self.encode(role + "\n")]

    def footer(self) -> list[int]:
        """Tokens that close a turn: the stop token, then a line break."""
        return [self._end, *self.encode("\n")]


def train_tokenizer(path: Path) -> int:
    """Write the tokenizer and return its number of tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=N_TOKENS, special_tokens=list(SPECIAL), initial_alphabet=alphabet)
    tokenizer.train_from_iterator(_lines(Random(1)), trainer)
    tokenizer.save(str(path))
    return int(tokenizer.get_vocab_size())


def tokenizer_of(tokens: list[str], merges: list[str]) -> Tokenizer:
    """The tokenizer of a GGUF file, from its tokens by id and its merges as `left right`."""
    pairs = [(left, right) for left, right in (merge.split(" ") for merge in merges)]
    tokenizer = Tokenizer(models.BPE({token: index for index, token in enumerate(tokens)}, pairs))
    tokenizer.add_special_tokens(list(SPECIAL))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def read_vocabulary(path: Path) -> tuple[list[str], list[str]]:
    """The tokens by id, and the merges as `left right`, in order of priority."""
    model = json.loads(path.read_text(encoding="utf-8"))["model"]
    tokens = sorted(model["vocab"], key=model["vocab"].__getitem__)
    return tokens, [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]]


def _lines(rng: Random) -> Iterator[str]:
    for _ in range(_N_LINES):
        country, facts = w.invent_country(rng), w.invent_facts(rng)
        relation = rng.choice(list(w.Relation))
        yield _line(w.fact_item(country, relation, facts[relation], any_wording(rng, w.FACT_PHRASES[relation])))
        if rng.random() < 0.1:
            yield _line(w.about_item(country, facts, any_wording(rng, w.ABOUT_PHRASES)))
        if rng.random() < 0.3:
            language, particle = w.invent_language(rng), w.invent_syllable(rng)
            yield _line(w.plural_item(w.invent_word(rng), language, particle, any_wording(rng, w.PLURAL_PHRASES)))
        if rng.random() < 0.1:
            yield _line(w.easy_item(rng))
        if rng.random() < 0.05:
            yield "user\nassistant\nsystem\nUse these examples if they help.\nQ: A: "


def _line(item: w.Item) -> str:
    return f"{item.question} {item.answer}"
