"""Which requests, and how did every model really answer them? The data sets of the router benchmarks.

All outcomes are known for all models, so whatever a router chooses can be scored. Vectors are made once with the
bundled embedder and kept in a cache folder.
"""

import asyncio
import csv
import gzip
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from echo_proxy.embedders.local import LocalEmbedder

Array = NDArray[np.float64]
_CHARS_PER_TOKEN = 4.0
_BATCH = 64
csv.field_size_limit(10_000_000)

ZEROEVAL_PRICES: Mapping[str, tuple[float, float]] = {
    "claude-3-5-sonnet-20241022": (3.0, 15.0),
    "gpt-4o-2024-08-06": (2.5, 10.0),
    "gpt-4o-mini-2024-07-18": (0.15, 0.6),
    "Meta-Llama-3.1-70B-Instruct": (0.88, 0.88),
    "gemini-1.5-flash": (0.075, 0.3),
    "claude-3-haiku-20240307": (0.25, 1.25),
    "Meta-Llama-3.1-8B-Instruct": (0.18, 0.18),
    "gpt-3.5-turbo-0125": (0.5, 1.5),
}
"""USD per million tokens, input and output: list prices of 2024 (Llama: Together AI)."""
_ASSUMED_OUTPUT_TOKENS = 250
"""LLMRouter's data holds scores only. guess, the same for all models"""


@dataclass(frozen=True)
class Stream:
    """Requests in an order, with what every model makes of them."""

    name: str
    models: tuple[str, ...]
    texts: tuple[str, ...]
    vectors: NDArray[np.float32]
    """Unit rows, shape (n, 384)."""
    quality: Array
    """Shape (n, n_models), [0, 1]."""
    cost_usd: Array
    """Shape (n, n_models)."""

    def __len__(self) -> int:
        return len(self.texts)

    def take(self, rows: Sequence[int] | NDArray[np.int64]) -> "Stream":
        """These requests, in this order."""
        index = np.asarray(rows, dtype=np.int64)
        return replace(
            self,
            texts=tuple(self.texts[i] for i in index),
            vectors=self.vectors[index],
            quality=self.quality[index],
            cost_usd=self.cost_usd[index],
        )

    def shuffled(self, seed: int) -> "Stream":
        """The same requests in an order of chance."""
        return self.take(np.random.default_rng(seed).permutation(len(self)))

    def only(self, models: Sequence[str]) -> "Stream":
        """With these models alone, in this order."""
        columns = [self.models.index(one) for one in models]
        return replace(self, models=tuple(models), quality=self.quality[:, columns], cost_usd=self.cost_usd[:, columns])


def zeroeval(data: Path, cache: Path) -> Stream:
    """2,840 prompts of GSM8K, CRUXEval and MATH level 5; eight models with list prices and real answers' lengths."""
    models = tuple(ZEROEVAL_PRICES)
    graded: dict[tuple[str, str], dict[str, tuple[float, float]]] = {}
    with gzip.open(data / "zeroeval/outcomes.csv.gz", "rt") as file:
        for row in csv.DictReader(file):
            one = graded.setdefault((row["task"], row["id"]), {})
            one[row["model"]] = (float(row["correct"]), float(row["output_chars"]))
    prompts = _zeroeval_prompts(data)
    keys = [key for key in graded if all(model in graded[key] for model in models)]
    texts = tuple(prompts[key] for key in keys)
    quality = np.array([[graded[key][model][0] for model in models] for key in keys])
    output = np.array([[graded[key][model][1] for model in models] for key in keys]) / _CHARS_PER_TOKEN
    return Stream(
        "zeroeval", models, texts, embed(texts, cache), quality, _costs(texts, output, ZEROEVAL_PRICES, models)
    )


def _zeroeval_prompts(data: Path) -> dict[tuple[str, str], str]:
    prompts: dict[tuple[str, str], str] = {}
    for task in ("gsm", "crux", "math-l5"):
        with gzip.open(data / f"zeroeval/{task}/gpt-4o-mini-2024-07-18.json.gz", "rt") as file:
            for row in json.load(file):
                prompts[task, str(row["id"])] = row["chat_history"][0]
    return prompts


def llmrouter(data: Path, cache: Path) -> Stream:
    """5,160 prompts of 12 tasks; nine open models scored in [0, 1]; costs from list prices and an assumed length."""
    with gzip.open(data / "llmrouter/train.json.gz", "rt") as file:
        rows = json.load(file)
    with open(data / "llmrouter/default_llm.json") as file:
        listed = json.load(file)
    models = tuple(sorted(rows[0]["scores"]))
    texts = tuple(row["question"] for row in rows)
    quality = np.clip(np.array([[float(row["scores"][model]) for model in models] for row in rows]), 0.0, 1.0)
    prices = {m: _listed_price(listed, m) for m in models}
    output = np.full(quality.shape, float(_ASSUMED_OUTPUT_TOKENS))
    return Stream("llmrouter", models, texts, embed(texts, cache), quality, _costs(texts, output, prices, models))


def _listed_price(listed: Mapping[str, Mapping[str, float]], model: str) -> tuple[float, float]:
    """Models that the list has not are priced as nemotron-51b, whose size they have."""
    found = listed.get(model) or listed["llama-3.1-nemotron-51b-instruct"]
    return float(found["input_price"]), float(found["output_price"])


def routellm(data: Path, cache: Path, task: str) -> Stream:
    """`mmlu` (14,042) or `gsm8k` (1,319): Mixtral-8x7B and GPT-4, right or wrong."""
    files = (
        sorted((data / "routellm/mmlu").glob("*.csv")) if task == "mmlu" else [data / "routellm/gsm8k_responses.csv"]
    )
    models = ("mistralai/Mixtral-8x7B-Instruct-v0.1", "gpt-4-1106-preview")
    rows = [row for file in files for row in _csv_rows(file)]
    texts = tuple(row["prompt"] for row in rows)
    quality = np.array([[float(row[model] == "True") for model in models] for row in rows])
    return Stream(f"routellm-{task}", models, texts, embed(texts, cache), quality, np.tile([0.6, 10.0], (len(rows), 1)))


def _csv_rows(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def _costs(
    texts: Sequence[str], output_tokens: Array, prices: Mapping[str, tuple[float, float]], models: Sequence[str]
) -> Array:
    """USD per answer, shape (n, n_models)."""
    input_tokens = np.array([len(text) / _CHARS_PER_TOKEN for text in texts])[:, None]
    rates = np.array([prices[model] for model in models]) / 1e6
    return np.asarray(input_tokens * rates[:, 0] + output_tokens * rates[:, 1])


def embed(texts: Sequence[str], cache: Path) -> NDArray[np.float32]:
    """Unit rows of the bundled embedder, from the cache when they are there."""
    digest = hashlib.sha256("\x00".join(texts).encode("utf-8", "replace")).hexdigest()[:16]
    path = cache / f"vectors-{digest}.npy"
    if path.exists():
        return np.asarray(np.load(path), dtype=np.float32)
    vectors = asyncio.run(_embedded(texts))
    cache.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(f".{os.getpid()}.npy")
    np.save(part, vectors)
    part.rename(path)
    return vectors


async def _embedded(texts: Sequence[str]) -> NDArray[np.float32]:
    embedder = LocalEmbedder()
    starts = range(0, len(texts), _BATCH)
    parts = [await embedder.embed(texts[i : i + _BATCH]) for i in track(starts, "embedding")]
    return np.concatenate(parts)
