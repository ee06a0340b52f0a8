"""Rules of the embedding cache and its batches."""

import asyncio
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from echo_proxy.embedders.cached import CachedEmbedder
from echo_proxy.errors import EmbedderError
from echo_proxy.protocols import Embedder


def vector_of(text: str) -> NDArray[np.float32]:
    """A unit vector that depends on nothing but the text, shape (4,)."""
    row = np.random.default_rng(list(text.encode())).standard_normal(4)
    return (row / np.linalg.norm(row)).astype(np.float32)


class GatedEmbedder:
    """Records its batches and answers each one only when told to."""

    model = "gated"
    dimensions = 4

    def __init__(self, is_open: bool = True) -> None:
        self.batches: list[list[str]] = []
        self.error: Exception | None = None
        self._gate = asyncio.Semaphore(1_000 if is_open else 0)

    def release(self) -> None:
        """Let one batch through."""
        self._gate.release()

    async def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Waits for the gate, then answers or fails."""
        self.batches.append(list(texts))
        await self._gate.acquire()
        if self.error is not None:
            raise self.error
        return np.stack([vector_of(text) for text in texts])


class NarrowEmbedder(GatedEmbedder):
    """Gives fewer rows than texts."""

    async def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """One row too few."""
        return np.zeros((len(texts) - 1, 4), dtype=np.float32)


async def settled() -> None:
    """Let every task run until it waits for something."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_rows_are_those_of_the_wrapped_embedder() -> None:
    """The cache changes no vector: known, new and repeated texts come in the order that was asked for."""
    inner = GatedEmbedder()
    cached: Embedder = CachedEmbedder(inner)
    await cached.embed(["b"])
    rows = await cached.embed(["a", "b", "a"])

    assert np.array_equal(rows, np.stack([vector_of("a"), vector_of("b"), vector_of("a")]))
    assert (cached.model, cached.dimensions) == ("gated", 4)


async def test_a_known_text_is_not_embedded_again() -> None:
    """The same text asked for twice, in one call or in two, is computed once."""
    inner = GatedEmbedder()
    cached = CachedEmbedder(inner)
    await cached.embed(["a", "a"])
    await cached.embed(["a"])

    assert inner.batches == [["a"]]


async def test_the_text_used_longest_ago_is_forgotten_first() -> None:
    """Beyond its capacity the cache forgets what was not used for longest; using a text keeps it."""
    inner = GatedEmbedder()
    cached = CachedEmbedder(inner, capacity=2)
    for text in ["a", "b", "a", "c", "a", "b"]:
        await cached.embed([text])

    assert inner.batches == [["a"], ["b"], ["c"], ["b"]]


async def test_one_call_may_hold_more_texts_than_the_cache() -> None:
    """A call is answered whole even when its own texts push each other out."""
    cached = CachedEmbedder(GatedEmbedder(), capacity=0, max_batch=2)
    texts = ["a", "b", "c", "d", "e"]
    rows = await cached.embed(texts)

    assert np.array_equal(rows, np.stack([vector_of(text) for text in texts]))


async def test_simultaneous_requests_share_one_computation() -> None:
    """Requests for the same text wait for the same vector, queued or being computed."""
    inner = GatedEmbedder(is_open=False)
    cached = CachedEmbedder(inner)
    waiting = [asyncio.create_task(cached.embed([text])) for text in ["a", "a", "b", "a", "b"]]
    await settled()
    inner.release()
    inner.release()
    rows = await asyncio.gather(*waiting)

    assert inner.batches == [["a"], ["b"]]
    assert np.array_equal(rows[3][0], vector_of("a"))


async def test_what_arrives_meanwhile_makes_the_next_batch() -> None:
    """Texts that arrive while a batch is computed are computed together, in order, no more than the maximum at once."""
    inner = GatedEmbedder(is_open=False)
    cached = CachedEmbedder(inner, max_batch=3)
    waiting = [asyncio.create_task(cached.embed([text])) for text in "abcde"]
    await settled()
    for _ in range(3):
        inner.release()
    await asyncio.gather(*waiting)

    assert inner.batches == [["a"], ["b", "c", "d"], ["e"]]


async def test_an_error_reaches_everyone_who_waits() -> None:
    """Every request of a failed batch gets the error, and the next request tries again."""
    inner = GatedEmbedder(is_open=False)
    inner.error = EmbedderError("away")
    cached = CachedEmbedder(inner)
    waiting = [asyncio.create_task(cached.embed(["a"])) for _ in range(3)]
    await settled()
    inner.release()
    outcomes = await asyncio.gather(*waiting, return_exceptions=True)
    inner.error = None
    inner.release()
    rows = await cached.embed(["a"])

    assert [str(outcome) for outcome in outcomes] == ["away"] * 3
    assert inner.batches == [["a"], ["a"]]
    assert np.array_equal(rows[0], vector_of("a"))


async def test_an_error_does_not_hold_up_the_next_batch() -> None:
    """When a batch fails, what was queued behind it is computed all the same."""
    inner = GatedEmbedder(is_open=False)
    inner.error = EmbedderError("away")
    cached = CachedEmbedder(inner)
    first, second = asyncio.create_task(cached.embed(["a"])), asyncio.create_task(cached.embed(["b"]))
    await settled()
    inner.release()
    with pytest.raises(EmbedderError, match="away"):
        await first
    inner.error = None
    inner.release()

    assert np.array_equal((await second)[0], vector_of("b"))


async def test_a_cancelled_request_leaves_the_work_to_the_others() -> None:
    """Cancelling the request that started a batch neither stops the batch nor harms who waits with it."""
    inner = GatedEmbedder(is_open=False)
    cached = CachedEmbedder(inner)
    impatient, patient = asyncio.create_task(cached.embed(["a"])), asyncio.create_task(cached.embed(["a"]))
    await settled()
    impatient.cancel()
    await settled()
    inner.release()

    assert np.array_equal((await patient)[0], vector_of("a"))
    assert impatient.cancelled()
    assert inner.batches == [["a"]]


async def test_a_result_nobody_waited_for_is_kept() -> None:
    """When the only waiter gives up, the vector is there for the next request."""
    inner = GatedEmbedder(is_open=False)
    cached = CachedEmbedder(inner)
    impatient = asyncio.create_task(cached.embed(["a"]))
    await settled()
    impatient.cancel()
    inner.release()
    await settled()
    await cached.embed(["a"])

    assert inner.batches == [["a"]]


async def test_a_cancelled_computation_is_an_error_not_a_cancellation() -> None:
    """When the embedder is cancelled from below, no request believes that it was cancelled itself."""
    inner = GatedEmbedder(is_open=False)
    cached = CachedEmbedder(inner)
    waiting = [asyncio.create_task(cached.embed([text])) for text in "ab"]
    await settled()
    (batch,) = (task for task in asyncio.all_tasks() if task.get_name() == "echo-embed-batch")
    batch.cancel()
    outcomes = await asyncio.gather(*waiting, return_exceptions=True)

    assert [type(outcome) for outcome in outcomes] == [EmbedderError, EmbedderError]


async def test_a_wrong_number_of_rows_is_an_error() -> None:
    """An embedder that answers with too few rows leaves nobody waiting."""
    cached = CachedEmbedder(NarrowEmbedder())
    with pytest.raises(EmbedderError, match=r"expected embeddings of shape \(2, 4\), got \(1, 4\)"):
        await cached.embed(["a", "b"])


async def test_a_bad_text_is_refused_before_it_joins_a_batch() -> None:
    """A blank text fails alone and never reaches the embedder."""
    inner = GatedEmbedder()
    with pytest.raises(ValueError, match="visible character"):
        await CachedEmbedder(inner).embed(["a", " "])

    assert inner.batches == []


async def test_callers_cannot_change_what_is_kept() -> None:
    """The rows belong to the caller: writing to them leaves the cache as it was."""
    cached = CachedEmbedder(GatedEmbedder())
    (await cached.embed(["a"]))[:] = 0.0

    assert np.array_equal((await cached.embed(["a"]))[0], vector_of("a"))


async def test_no_texts_give_no_rows() -> None:
    """An empty list is answered at once by an array of the usual width."""
    assert (await CachedEmbedder(GatedEmbedder()).embed([])).shape == (0, 4)


@given(
    requests=st.lists(st.lists(st.sampled_from("abcdef"), max_size=5), max_size=8),
    capacity=st.integers(0, 4),
    max_batch=st.integers(1, 3),
)
def test_every_request_gets_its_own_rows(requests: list[list[str]], capacity: int, max_batch: int) -> None:
    """However requests overlap and whatever the bounds are, each gets its texts' vectors and no batch is too large."""
    inner = GatedEmbedder()

    async def ask_all() -> list[NDArray[np.float32]]:
        cached = CachedEmbedder(inner, capacity, max_batch)
        return await asyncio.gather(*(cached.embed(texts) for texts in requests))

    answers = asyncio.run(ask_all())

    assert [row.tolist() for rows in answers for row in rows] == [
        vector_of(text).tolist() for texts in requests for text in texts
    ]
    assert all(len(batch) <= max_batch for batch in inner.batches)


@pytest.mark.parametrize(("capacity", "max_batch", "max_waiting"), [(-1, 1, 1), (1, 0, 1), (1, 1, 0)])
def test_bounds_out_of_range_are_refused(capacity: int, max_batch: int, max_waiting: int) -> None:
    """A cache of negative size, a batch of nothing and a queue for nobody are mistakes."""
    with pytest.raises(ValueError, match="must be at least"):
        CachedEmbedder(GatedEmbedder(), capacity, max_batch, max_waiting)


async def test_texts_that_nobody_waits_for_are_never_computed() -> None:
    """A request that was given up at its deadline must not hold up the next ones."""
    inner = GatedEmbedder(is_open=False)
    embedder = CachedEmbedder(inner, max_batch=1)
    first = asyncio.create_task(embedder.embed(["first"]))
    await settled()
    given_up = [asyncio.create_task(embedder.embed([f"late {i}"])) for i in range(5)]
    await settled()
    for task in given_up:
        task.cancel()
    await settled()
    last = asyncio.create_task(embedder.embed(["last"]))
    await settled()
    inner.release()
    inner.release()
    async with asyncio.timeout(5):
        await asyncio.gather(first, last)

    assert inner.batches == [["first"], ["last"]]


async def test_an_overloaded_embedder_says_so() -> None:
    """It refuses what it could not do in time, and recovers as soon as the queue is shorter."""
    inner = GatedEmbedder(is_open=False)
    embedder = CachedEmbedder(inner, max_batch=1, max_waiting=2)
    waiting = []
    for text in ("a", "b", "c"):  # one is being computed, two wait
        waiting.append(asyncio.create_task(embedder.embed([text])))
        await settled()

    with pytest.raises(EmbedderError, match="busy: 2 texts"):
        async with asyncio.timeout(5):
            await embedder.embed(["d"])
    for _ in range(4):
        inner.release()
    await asyncio.gather(*waiting)
    assert (await embedder.embed(["d"])).shape == (1, 4)


async def test_after_an_overload_the_next_batch_is_for_who_still_waits() -> None:
    """Once the callers of a full queue have given up, a new text is taken and computed at once, not behind theirs."""
    inner = GatedEmbedder(is_open=False)
    embedder = CachedEmbedder(inner, max_batch=2, max_waiting=8)
    running = asyncio.create_task(embedder.embed(["running"]))
    await settled()
    late = [asyncio.create_task(embedder.embed([f"late {i}", f"late {i}"])) for i in range(40)]
    await settled()
    refused = [task for task in late if task.done()]
    for task in late:
        task.cancel()
    await settled()
    new = asyncio.create_task(embedder.embed(["new"]))
    await settled()
    inner.release()
    inner.release()
    async with asyncio.timeout(5):
        await asyncio.gather(running, new)

    assert {str(task.exception()) for task in refused} == {"the embedder is busy: 8 texts are waiting"}
    assert len(refused) == 32
    assert inner.batches == [["running"], ["new"]]


async def test_a_queued_text_stays_while_anyone_waits_for_it() -> None:
    """Of two requests for it one is cancelled before its batch begins; the other gets its vector."""
    inner = GatedEmbedder(is_open=False)
    embedder = CachedEmbedder(inner, max_batch=1)
    running = asyncio.create_task(embedder.embed(["running"]))
    await settled()
    impatient, patient = (asyncio.create_task(embedder.embed(["shared"])) for _ in range(2))
    await settled()
    impatient.cancel()
    await settled()
    inner.release()
    inner.release()
    async with asyncio.timeout(5):
        await running
        rows = await patient

    assert np.array_equal(rows[0], vector_of("shared"))
    assert inner.batches == [["running"], ["shared"]]


async def test_a_busy_embedder_still_serves_what_it_knows() -> None:
    """Texts that are kept or waited for already cost nothing, so a full queue refuses only new ones."""
    inner = GatedEmbedder(is_open=False)
    embedder = CachedEmbedder(inner, max_batch=1, max_waiting=1)
    inner.release()
    await embedder.embed(["known"])
    waiting = []
    for text in ("running", "queued"):
        waiting.append(asyncio.create_task(embedder.embed([text])))
        await settled()
    waiting.append(asyncio.create_task(embedder.embed(["known", "running", "queued"])))
    await settled()
    inner.release()
    inner.release()

    assert [rows.shape for rows in await asyncio.gather(*waiting)] == [(1, 4), (1, 4), (3, 4)]
