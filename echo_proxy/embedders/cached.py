"""Has this text been embedded before, or is it being embedded right now?"""

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Sequence
from functools import partial
from hashlib import blake2b
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from echo_proxy.embedders.texts import check_texts
from echo_proxy.errors import EmbedderError
from echo_proxy.protocols import Embedder
from echo_proxy.types import Embedding


class CachedEmbedder:
    """Remembers what another embedder gave, and gathers what arrives while that one is busy.

    One batch is computed at a time. Texts that arrive meanwhile wait for the next one and are computed together, so a
    quiet proxy waits for nothing and a busy one makes large batches, without a timer to tune. A text that several
    requests ask for is computed once; a request that is cancelled leaves its texts to the others, and to the cache.
    """

    def __init__(
        self, embedder: Embedder, capacity: int = 4_096, max_batch: int = 32, max_waiting: int = 1_024
    ) -> None:
        """Wrap an embedder.

        Args:
            embedder: computes what is not known yet.
            capacity: vectors that are kept, at least 0; 4,096 of 384 dimensions are 6 MB.
            max_batch: texts in a batch, at least 1.
            max_waiting: texts in the queue beyond which new ones are refused, at least 1.

        Raises:
            ValueError: a bound is out of range.
        """
        if capacity < 0:
            raise ValueError(f"capacity must be at least 0, got {capacity}")
        if max_batch < 1:
            raise ValueError(f"max_batch must be at least 1, got {max_batch}")
        if max_waiting < 1:
            raise ValueError(f"max_waiting must be at least 1, got {max_waiting}")
        self._embedder = embedder
        self._max_waiting = max_waiting
        self._capacity = capacity
        self._max_batch = max_batch
        self._kept: OrderedDict[bytes, Embedding] = OrderedDict()
        """Vectors by text, the one used longest ago first."""
        self._promised: dict[bytes, asyncio.Future[Embedding]] = {}
        """What is waited for: queued or being computed."""
        self._waiters: Counter[bytes] = Counter()
        """Requests that wait for each text."""
        self._queued: dict[bytes, str] = {}
        """Texts for the next batches, in order of arrival."""
        self._batch: asyncio.Task[NDArray[np.float32]] | None = None
        """The batch that is being computed."""

    @property
    def model(self) -> str:
        """Name that the index records."""
        return self._embedder.model

    @property
    def dimensions(self) -> int:
        """Length of a vector."""
        return self._embedder.dimensions

    async def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Unit rows, shape (len(texts), dimensions).

        Raises:
            ValueError: a text is blank or cannot be encoded.
            EmbedderError: the wrapped embedder gave another shape, or was cancelled. Whatever else it raises reaches
                everyone who waits for the batch; nothing is remembered of it, so the next request tries again.
        """
        check_texts(texts)
        if not texts:
            return np.empty((0, self.dimensions), dtype=np.float32)
        # A digest instead of the text: long prompts would outweigh their vectors. 32 bytes, so that nobody can craft a
        # second text with the same key.
        keys = [blake2b(text.encode(), digest_size=32).digest() for text in texts]
        self._refuse_overload(sum(key not in self._promised and key not in self._kept for key in keys))
        answers = [self._answer(key, text) for key, text in zip(keys, texts, strict=True)]
        self._waiters.update(keys)
        self._start_batch()
        try:
            # Unlike gather, wait leaves the futures alone when this request is cancelled.
            await asyncio.wait(set(answers))
        finally:
            self._leave(keys)
        return np.stack([answer.result() for answer in answers])

    def _refuse_overload(self, n_new: int) -> None:
        """Nobody is served in time by a queue that only grows."""
        if n_new and len(self._queued) >= self._max_waiting:
            raise EmbedderError(f"the embedder is busy: {len(self._queued)} texts are waiting")

    def _leave(self, keys: Sequence[bytes]) -> None:
        """A request has its answer or was given up; texts that nobody waits for any more are not computed."""
        self._waiters.subtract(keys)
        for key in set(keys):
            if self._waiters[key] <= 0:
                del self._waiters[key]
                if self._queued.pop(key, None) is not None:
                    self._promised.pop(key, None)

    def _answer(self, key: bytes, text: str) -> asyncio.Future[Embedding]:
        """A future for the text's vector: done, promised before, or newly queued."""
        if key in self._promised:
            return self._promised[key]
        future: asyncio.Future[Embedding] = asyncio.get_running_loop().create_future()
        if key in self._kept:
            self._kept.move_to_end(key)
            future.set_result(self._kept[key])
        else:
            self._promised[key] = future
            self._queued[key] = text
        return future

    def _start_batch(self) -> None:
        """Compute the texts that have waited longest, unless a batch is being computed."""
        if self._batch is not None or not self._queued:
            return
        keys = tuple(islice(self._queued, self._max_batch))
        texts = [self._queued.pop(key) for key in keys]
        # A task of its own: it outlives the request that happened to start it.
        self._batch = asyncio.create_task(self._compute(texts), name="echo-embed-batch")
        self._batch.add_done_callback(partial(self._deliver, keys))

    async def _compute(self, texts: Sequence[str]) -> NDArray[np.float32]:
        rows = await self._embedder.embed(texts)
        expected = (len(texts), self.dimensions)
        if rows.shape != expected:
            raise EmbedderError(f"expected embeddings of shape {expected}, got {rows.shape}")
        return rows

    def _deliver(self, keys: Sequence[bytes], batch: asyncio.Task[NDArray[np.float32]]) -> None:
        """Hand out what the batch gave, good or bad, and start the next one."""
        self._batch = None
        if batch.cancelled():
            # The loop is ending, or the embedder was closed: what is queued would only fail later. An error of ours,
            # because a CancelledError would look to the waiters as if they had been cancelled themselves.
            self._queued.clear()
            self._fail(tuple(self._promised), EmbedderError("expected an embedding, but its computation was cancelled"))
        elif (error := batch.exception()) is not None:
            self._fail(keys, error)
        else:
            for key, row in zip(keys, batch.result(), strict=True):
                self._promised.pop(key).set_result(self._keep(key, row))
        self._start_batch()

    def _fail(self, keys: Sequence[bytes], error: BaseException) -> None:
        """Give the error to everyone who waits for one of these texts."""
        for key in keys:
            future = self._promised.pop(key)
            future.set_exception(error)
            future.exception()  # seen: when every waiter was cancelled, asyncio would complain that nobody looked

    def _keep(self, key: bytes, row: Embedding) -> Embedding:
        """Remember a vector and forget the one used longest ago when there are too many."""
        vector = row.copy()  # a view would keep the whole batch in memory
        self._kept[key] = vector
        if len(self._kept) > self._capacity:
            self._kept.popitem(last=False)
        return vector
