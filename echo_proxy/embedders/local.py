"""Embeds on this machine, with the bundled model: no key, no network, no torch."""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from tokenizers import Tokenizer

from echo_proxy.embedders.texts import check_texts
from echo_proxy.errors import EmbedderError

_T = TypeVar("_T")

ASSETS = Path(__file__).parent.parent / "assets" / "embedder"
"""Folder of the bundled model."""

_CHARS_PER_END = 8_192
"""Characters of a long text's head, and of its tail, that are tokenised at all. Tokenising 1,000,000 characters takes
1.4 s, 16,384 take 7 ms (measured, one core); 128 tokens of prose are about 600 characters."""


@dataclass(frozen=True, slots=True)
class _Loaded:
    """What reading the assets gives."""

    tokenizer: Tokenizer
    session: onnxruntime.InferenceSession


class LocalEmbedder:
    """Runs an ONNX sentence embedding model on one core, in a thread of its own.

    Each text is a run of its own. The int8 model scales its activations by the largest value in the whole run, so in a
    shared run a text's vector depends on its neighbours: measured on 32 questions, runs of 2, 8 and 32 texts lay up to
    0.009 cosine distance (0.006 on average) from the same texts alone, so a text would not find itself at distance 0.
    Alone, a text has exactly one vector. The price is speed where lengths are equal (2.7 ms instead of 1.3 ms a text);
    where they are mixed, separate runs are faster, because nothing is padded (4.0 ms instead of 6.1 ms a text).
    """

    def __init__(
        self,
        folder: Path = ASSETS,
        model: str = "all-minilm-l6-v2-int8",
        dimensions: int = 384,
        max_tokens: int = 256,
    ) -> None:
        """Name the model without reading it.

        Args:
            folder: holds `{model}.onnx` and `tokenizer.json`.
            model: name that the index records.
            dimensions: length of a vector; checked against the model when it is loaded.
            max_tokens: tokens of a text that are read, the two special ones included, at least 4. The model was trained
                on 128 and takes 512; time grows with them (37 ms for 256 tokens on one core).
        """
        if max_tokens < 4:
            raise ValueError(f"max_tokens must be at least 4, got {max_tokens}")
        self._folder = folder
        self._model = model
        self._dimensions = dimensions
        self._max_tokens = max_tokens
        # A thread of its own: the loop's default pool is shared with whatever else the proxy runs, and a single thread
        # means that loading needs no lock.
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="echo-embedder")
        self._loaded: _Loaded | None = None

    @property
    def model(self) -> str:
        """Name that the index records."""
        return self._model

    @property
    def dimensions(self) -> int:
        """Length of a vector."""
        return self._dimensions

    async def load(self) -> None:
        """Read the model now, so that the first request need not wait for it (0.1 s); idempotent.

        Raises:
            EmbedderError: a file is missing or is not the model that was named.
        """
        await self._in_thread(self._load)

    async def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Unit rows, shape (len(texts), dimensions).

        The same text always gives the same row, whatever it is embedded together with. Of a text with more than
        `max_tokens` tokens only the head and the tail are read.

        Raises:
            ValueError: a text is blank or cannot be encoded.
            EmbedderError: the model could not be loaded, or the embedder is closed.
        """
        check_texts(texts)
        return await self._in_thread(lambda: self._embed(texts))

    async def close(self) -> None:
        """End the thread after the text it is at; idempotent."""
        await asyncio.to_thread(self._executor.shutdown, cancel_futures=True)

    async def _in_thread(self, work: Callable[[], _T]) -> _T:
        try:
            running = asyncio.get_running_loop().run_in_executor(self._executor, work)
        except RuntimeError as error:  # what a pool that was shut down raises
            raise EmbedderError("expected an open embedder, got a closed one") from error
        return await running

    def _embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        loaded = self._load()
        rows = np.empty((len(texts), self._dimensions), dtype=np.float32)  # (n_texts, dimensions)
        for index, text in enumerate(texts):
            rows[index] = _run(loaded.session, token_ids(loaded.tokenizer, text, self._max_tokens))
        return rows

    def _load(self) -> _Loaded:
        """Only ever runs in the embedder's own thread."""
        if self._loaded is None:
            tokenizer = _read_tokenizer(self._folder / "tokenizer.json")
            session = _read_session(self._folder / f"{self._model}.onnx", self._dimensions)
            self._loaded = _Loaded(tokenizer, session)
        return self._loaded


def token_ids(tokenizer: Tokenizer, text: str, max_tokens: int) -> list[int]:
    """Ids of the text's tokens, the special ones included, at most `max_tokens`.

    Head and tail are kept in equal parts: a long prompt often opens with what it is about and closes with what is asked
    of it, and the pasted document between them says least about which answers would help.
    """
    if len(text) > 2 * _CHARS_PER_END:
        text = f"{text[:_CHARS_PER_END]} {text[-_CHARS_PER_END:]}"
    ids: list[int] = tokenizer.encode(text).ids
    if len(ids) <= max_tokens:
        return ids
    n_tail = max_tokens // 2
    return ids[: max_tokens - n_tail] + ids[-n_tail:]  # the special tokens are the first and the last


def _run(session: onnxruntime.InferenceSession, ids: list[int]) -> NDArray[np.float32]:
    """Unit vector of one text, shape (dimensions,); the graph pools and normalises."""
    input_ids = np.array([ids], dtype=np.int64)  # (1, n_tokens)
    outputs = session.run(None, {"input_ids": input_ids, "attention_mask": np.ones_like(input_ids)})
    row: NDArray[np.float32] = outputs[0][0]  # (dimensions,)
    return row


def _read_tokenizer(path: Path) -> Tokenizer:
    """The tokenizer without the truncation and padding that its file asks for."""
    _require_file(path)
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _read_session(path: Path, dimensions: int) -> onnxruntime.InferenceSession:
    """The model, ready to run on one core."""
    _require_file(path)
    options = onnxruntime.SessionOptions()
    # More threads would gain little on texts this short, and would take cores from the proxy and the local model.
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    found = session.get_outputs()[0].shape[-1]
    if found != dimensions:
        raise EmbedderError(f"expected {path.name} to give {dimensions} dimensions, got {found}")
    return session


def _require_file(path: Path) -> None:
    if not path.is_file():
        raise EmbedderError(f"expected the local embedding model at {path}, found no file there")
