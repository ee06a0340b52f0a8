"""Rules of the bundled embedding model."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest
import pytest_asyncio

from echo_proxy.embedders.local import ASSETS, LocalEmbedder
from echo_proxy.errors import EmbedderError
from echo_proxy.protocols import Embedder

QUESTIONS = [
    "How do I reset my password?",
    "What is the capital of France?",
    "Explain in simple words how attention works in a transformer, for somebody who has never seen one.",
    "Write a Python function that merges two sorted lists.",
]
PARAPHRASES = [
    "I forgot my password, how can I get a new one?",
    "Which city is France's capital?",
    "Describe the attention mechanism of transformers to a beginner.",
    "Python code to merge two lists that are already sorted",
]


@pytest_asyncio.fixture
async def embedder() -> AsyncIterator[LocalEmbedder]:
    """The bundled model."""
    local = LocalEmbedder()
    yield local
    await local.close()


async def test_rows_are_unit_vectors(embedder: LocalEmbedder) -> None:
    """Each text gives a float32 row of length one and of the promised size."""
    rows = await embedder.embed(QUESTIONS)

    assert rows.shape == (len(QUESTIONS), embedder.dimensions)
    assert rows.dtype == np.float32
    assert np.linalg.norm(rows, axis=1) == pytest.approx(1.0, abs=1e-5)


async def test_a_text_has_one_vector(embedder: LocalEmbedder) -> None:
    """The same text gives the same row, bit for bit: twice, alone, among others, and in another order."""
    together = await embedder.embed(QUESTIONS)
    again = await embedder.embed(QUESTIONS)
    backwards = await embedder.embed(QUESTIONS[::-1])
    alone = np.vstack([await embedder.embed([text]) for text in QUESTIONS])

    assert np.array_equal(again, together)
    assert np.array_equal(backwards[::-1], together)
    assert np.array_equal(alone, together)


async def test_paraphrases_are_nearer_than_unrelated_questions(embedder: LocalEmbedder) -> None:
    """Every question lies nearer to its own paraphrase than to any other, with room to spare."""
    cosines = await embedder.embed(QUESTIONS) @ (await embedder.embed(PARAPHRASES)).T
    own, others = np.diag(cosines), cosines[~np.eye(len(QUESTIONS), dtype=bool)]

    assert own.min() > others.max() + 0.2


async def test_no_texts_give_no_rows(embedder: LocalEmbedder) -> None:
    """An empty list is answered by an array of the usual width."""
    assert (await embedder.embed([])).shape == (0, embedder.dimensions)


async def test_head_and_tail_of_a_long_text_count(embedder: LocalEmbedder) -> None:
    """A long text is read at both ends: another opening or another closing question changes its vector."""
    document = "The committee met again and took note of the report. " * 100
    head, tail = "Contract with a landlord. ", "What is the notice period?"
    base, same, other_head, other_tail = await embedder.embed(
        [
            head + document + tail,
            head + document + "An aside in the middle. " + document + tail,
            "Recipe for a cake. " + document + tail,
            head + document + "Who won the football match?",
        ]
    )

    assert base @ same == pytest.approx(1.0, abs=1e-5)
    assert base @ other_head < 0.99
    assert base @ other_tail < 0.99


async def test_a_very_long_text_is_not_tokenised_whole(embedder: LocalEmbedder) -> None:
    """What stands far from both ends is never read, so a huge paste costs no more than a long one."""
    filler = "lorem ipsum dolor sit amet " * 4_000
    short, huge = await embedder.embed([f"Why? {filler} Sum it up.", f"Why? {filler * 10} Sum it up."])

    assert np.array_equal(short, huge)


async def test_a_short_text_is_read_whole(embedder: LocalEmbedder) -> None:
    """Below the limit every token counts, also in the middle."""
    left, right = "alpha " * 40, " omega" * 40
    one, other = await embedder.embed([f"{left}banana{right}", f"{left}lawyer{right}"])

    assert one @ other < 0.9999


async def test_a_blank_text_is_refused(embedder: LocalEmbedder) -> None:
    """A blank text is an error, never a zero vector."""
    with pytest.raises(ValueError, match="at least one visible character"):
        await embedder.embed(["fine", "  "])


async def test_the_loop_keeps_running(embedder: LocalEmbedder) -> None:
    """While a batch of 64 is computed, other tasks get their turn."""
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0)
            ticks += 1

    await embedder.load()
    ticking = asyncio.create_task(tick())
    await embedder.embed([f"Question number {index}" for index in range(64)])
    ticking.cancel()

    assert ticks > 1  # one turn would be had even if the batch ran on the loop


async def test_loading_does_not_stop_the_loop() -> None:
    """Reading the model happens in the embedder's thread: the loop turns many times before it is done."""
    local = LocalEmbedder()
    loading = asyncio.create_task(local.load())
    turns = 0
    while not loading.done():
        await asyncio.sleep(0)
        turns += 1
    await local.close()

    assert turns > 2


async def test_nothing_is_read_before_it_is_needed(tmp_path: Path) -> None:
    """An embedder can be made, and asked for its name and size, where there is no model at all."""
    local = LocalEmbedder(folder=tmp_path)

    assert (local.model, local.dimensions) == ("all-minilm-l6-v2-int8", 384)


async def test_a_missing_model_is_named(tmp_path: Path) -> None:
    """Where the model is missing, the error says which file was expected, on load and on use."""
    local = LocalEmbedder(folder=tmp_path)
    with pytest.raises(EmbedderError, match=r"expected the local embedding model at .*tokenizer\.json, found no file"):
        await local.load()
    with pytest.raises(EmbedderError, match="found no file"):
        await local.embed(["hello"])


async def test_a_model_of_another_size_is_refused() -> None:
    """The promised size is checked against the model, before the index believes it."""
    local = LocalEmbedder(dimensions=256)
    with pytest.raises(EmbedderError, match="to give 256 dimensions, got 384"):
        await local.load()


async def test_a_closed_embedder_says_so() -> None:
    """After closing, which may happen twice, asking is an error of ours."""
    local = LocalEmbedder()
    await local.close()
    await local.close()
    with pytest.raises(EmbedderError, match="got a closed one"):
        await local.embed(["hello"])


def test_too_few_tokens_are_refused() -> None:
    """Two special tokens and one for head and tail each are the least that makes sense."""
    with pytest.raises(ValueError, match="max_tokens must be at least 4, got 3"):
        LocalEmbedder(max_tokens=3)


def test_the_package_ships_the_model() -> None:
    """Model, tokenizer and the note on their origin lie in the package; it is an embedder to the core."""
    embedder: Embedder = LocalEmbedder()
    names = {path.name for path in ASSETS.iterdir()}

    assert names == {f"{embedder.model}.onnx", "tokenizer.json", "README.md"}
