"""Embeds with any provider that LiteLLM speaks to."""

import asyncio
from collections.abc import Sequence
from typing import Any

import litellm
import numpy as np
from litellm.exceptions import BudgetExceededError
from numpy.typing import NDArray
from openai import OpenAIError

from echo_proxy.embedders.texts import check_texts
from echo_proxy.errors import EmbedderError

_PROVIDER_ERRORS = (OpenAIError, BudgetExceededError)
"""OpenAIError is the root of all of LiteLLM's exceptions for providers, whichever provider it is."""


class HostedEmbedder:
    """Asks a provider for embeddings, through LiteLLM, and checks what comes back."""

    def __init__(
        self,
        model: str,
        dimensions: int,
        api_base: str | None = None,
        api_key: str | None = None,
        timeout_s: float = 5.0,  # guess, not yet measured; the plan's own deadline is usually the tighter one
    ) -> None:
        """Name the model; nothing is asked of the provider yet.

        Args:
            model: LiteLLM's name with its provider, e.g. `openai/text-embedding-3-small`; the index records it.
            dimensions: length of the vectors that the model gives.
            api_base: address of the endpoint; None takes the provider's own.
            api_key: None takes the one that LiteLLM finds in the environment.
            timeout_s: seconds for the whole call, above 0.

        Raises:
            ValueError: dimensions or timeout are out of range.
        """
        if dimensions < 1:
            raise ValueError(f"dimensions must be at least 1, got {dimensions}")
        if not timeout_s > 0.0:
            raise ValueError(f"timeout_s must be above 0, got {timeout_s}")
        self._model = model
        self._dimensions = dimensions
        self._api_base = api_base
        self._api_key = api_key
        self._timeout_s = timeout_s

    @property
    def model(self) -> str:
        """Name that the index records."""
        return self._model

    @property
    def dimensions(self) -> int:
        """Length of a vector."""
        return self._dimensions

    async def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Unit rows, shape (len(texts), dimensions), from one call to the provider.

        Raises:
            ValueError: a text is blank or cannot be encoded.
            EmbedderError: the provider refused, failed or took too long, or its answer is not what was asked for.
        """
        check_texts(texts)
        if not texts:
            return np.empty((0, self._dimensions), dtype=np.float32)
        return unit_rows(await self._ask(texts), len(texts), self._dimensions)

    async def _ask(self, texts: Sequence[str]) -> list[Any]:
        """The provider's rows, as they came."""
        try:
            # The limit on the whole call is ours: LiteLLM's is per try, and it tries an OpenAI-compatible endpoint
            # three times whatever it is told (in its embedding call `max_retries=0` falls back to the default of 2).
            async with asyncio.timeout(self._timeout_s):
                response = await litellm.aembedding(
                    model=self._model,
                    input=list(texts),
                    api_base=self._api_base,
                    api_key=self._api_key,
                    timeout=self._timeout_s,
                )
        except TimeoutError as error:
            raise EmbedderError(f"expected embeddings from {self._model} in {self._timeout_s} s, got none") from error
        except _PROVIDER_ERRORS as error:
            raise EmbedderError(
                f"expected embeddings from {self._model}, got {type(error).__name__}: {error}"
            ) from error
        return response.data or []


def unit_rows(items: Sequence[Any], n_texts: int, dimensions: int) -> NDArray[np.float32]:
    """The provider's items as unit rows in the order of the texts, shape (n_texts, dimensions).

    Args:
        items: one per text, each with `embedding` and `index`, in any order.
        n_texts: how many were asked for.
        dimensions: length of a vector.

    Raises:
        EmbedderError: number, order, size or values are not what was expected.
    """
    if len(items) != n_texts:
        raise EmbedderError(f"expected {n_texts} embeddings, got {len(items)}")
    try:
        ordered = sorted(items, key=lambda item: int(item["index"]))
        rows = [np.asarray(item["embedding"], dtype=np.float64) for item in ordered]
    except (KeyError, TypeError, ValueError) as error:
        raise EmbedderError(f"expected embeddings as lists of numbers, got {error!r}") from error
    for row in rows:
        if row.shape != (dimensions,):
            raise EmbedderError(f"expected embeddings of shape ({dimensions},), got {row.shape}")
    return _normalised(np.stack(rows))


def _normalised(rows: NDArray[np.float64]) -> NDArray[np.float32]:
    """Rows of length one, shape unchanged; raises EmbedderError for a row that has no direction."""
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)  # (n_texts, 1)
    if not (np.isfinite(lengths) & (lengths > 0.0)).all():
        raise EmbedderError(f"expected embeddings of finite length above 0, got lengths {lengths[:, 0].tolist()}")
    unit: NDArray[np.float32] = (rows / lengths).astype(np.float32)
    return unit
