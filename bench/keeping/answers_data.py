"""Which requests, in which order, and which stored answer is right for which? The streams of the answer tier."""

import asyncio
import csv
import hashlib
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from echo_proxy.demo.traffic import stream
from echo_proxy.demo.world import Item, correct, make_world
from echo_proxy.embedders.local import LocalEmbedder

VECTORS = Path(tempfile.gettempdir()) / "echo-bench-answers"
_BATCH = 64


@dataclass(frozen=True)
class Stream:
    """Requests in an order. The same text may come again."""

    texts: tuple[str, ...]
    """Distinct ones."""
    said: tuple[str, ...]
    """The teacher's answer to each."""
    order: tuple[int, ...]
    """Which text comes when."""
    near: NDArray[np.float32]
    """Cosine distances of all texts, shape (n_texts, n_texts)."""
    is_right: Callable[[int, str], bool]
    """Whether an answer is right for a text."""


def streams(name: str, data: Path, n: int, seed: int) -> tuple[Stream, Stream]:
    """A stream to tune on and one to report on, by `<data set> once` or `<data set> repeats`; no text is in both,
    except in the pair's world, where both are streams of the demo with seeds of their own."""
    if name == "pair repeats":
        return _pair(n, 1000 + seed), _pair(n, seed)
    source, way = name.split()
    texts, said, right = _nl2bash(data) if source == "nl2bash" else _banking(data)
    shuffled = np.random.default_rng(seed).permutation(len(texts))
    vectors = _vectors(source, texts)
    half = len(texts) // 2
    folds = (shuffled[:half], shuffled[half:])
    made = [_fold(rows, texts, said, right, vectors, way, n, seed + i) for i, rows in enumerate(folds)]
    return made[0], made[1]


def _fold(
    rows: NDArray[np.int64],
    texts: Sequence[str],
    said: Sequence[str],
    right: Sequence[frozenset[str]],
    vectors: NDArray[np.float32],
    way: str,
    n: int,
    seed: int,
) -> Stream:
    rng = np.random.default_rng((seed, 5))
    answers = [said[row] for row in rows]
    order = rng.permutation(len(rows))[:n] if way == "once" else _zipf(answers, n, rng)
    accepted = [right[row] for row in rows]
    return Stream(
        tuple(texts[row] for row in rows),
        tuple(answers),
        tuple(int(i) for i in order),
        _distances(vectors[rows]),
        lambda i, text: text in accepted[i],
    )


def _zipf(answers: Sequence[str], n: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """What is asked for has Zipf's popularity (exponent 1, ranks by chance), each of its wordings is equally likely."""
    by_answer: dict[str, list[int]] = defaultdict(list)
    for i, answer in enumerate(answers):
        by_answer[answer].append(i)
    groups = list(by_answer.values())
    weights = 1 / (1 + rng.permutation(len(groups)))
    drawn = rng.choice(len(groups), size=n, p=weights / weights.sum())
    return np.array([groups[g][rng.integers(len(groups[g]))] for g in drawn])


def _nl2bash(data: Path) -> tuple[list[str], list[str], list[frozenset[str]]]:
    """Requests with all commands that stand beside the same words; the teacher says the one that is commonest."""
    lines = [(data / "nl2bash" / name).read_text().splitlines() for name in ("all.nl", "all.cm")]
    commands: dict[str, list[str]] = defaultdict(list)
    words: dict[str, str] = {}
    for text, command in zip(*lines, strict=True):
        key = " ".join(text.lower().split()).rstrip(".")
        if key:
            commands[key].append(" ".join(command.split()))
            words.setdefault(key, text.strip())
    common = Counter(one for each in commands.values() for one in each)
    said = [max(each, key=lambda one: (common[one], one)) for each in commands.values()]
    return [words[key] for key in commands], said, [frozenset(each) for each in commands.values()]


def _banking(data: Path) -> tuple[list[str], list[str], list[frozenset[str]]]:
    rows: dict[str, str] = {}
    for name in ("train.csv", "test.csv"):
        with (data / "banking77" / name).open(newline="", encoding="utf-8") as file:
            rows.update({row["text"].strip(): row["category"] for row in csv.DictReader(file)})
    return list(rows), list(rows.values()), [frozenset([one]) for one in rows.values()]


def _pair(n: int, seed: int) -> Stream:
    asks = stream(make_world(), n, seed)
    items: dict[str, Item] = {}
    for ask in asks:
        items.setdefault(ask.item.question, ask.item)
    known, place = list(items.values()), {text: i for i, text in enumerate(items)}

    @cache
    def is_right(i: int, text: str) -> bool:
        return correct(known[i], text) == 1.0

    return Stream(
        tuple(items),
        tuple(one.answer for one in known),
        tuple(place[ask.item.question] for ask in asks),
        _distances(_vectors(f"pair-{n}-{seed}", list(items))),
        is_right,
    )


def _distances(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    distances: NDArray[np.float32] = np.clip(1 - vectors @ vectors.T, 0, 2)
    np.fill_diagonal(distances, 0)
    return distances


def _vectors(name: str, texts: Sequence[str]) -> NDArray[np.float32]:
    """Of the bundled embedder, kept in a temporary folder; shape (n_texts, 384)."""
    digest = hashlib.sha256("\x00".join(texts).encode()).hexdigest()[:16]
    file = VECTORS / f"{name}-{digest}.npy"
    if not file.is_file():
        VECTORS.mkdir(exist_ok=True)
        np.save(file, asyncio.run(_embed(texts)))
    kept: NDArray[np.float32] = np.load(file)
    return kept


async def _embed(texts: Sequence[str]) -> NDArray[np.float32]:
    embedder = LocalEmbedder()
    starts = track(range(0, len(texts), _BATCH), description="embedding")
    rows = [await embedder.embed(texts[start : start + _BATCH]) for start in starts]
    await embedder.close()
    return np.concatenate(rows)
