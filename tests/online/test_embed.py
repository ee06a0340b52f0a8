from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from echo_proxy.errors import EmbedderError
from echo_proxy.online.embed import embed, identity_of
from echo_proxy.types import Message
from tests.builders import request
from tests.fakes import HashingEmbedder


async def test_a_request_has_one_vector() -> None:
    """One embedding per request, of the text that stands for it."""
    embedder = HashingEmbedder()

    made = await embed(request("Hello there"), embedder)

    assert embedder.n_texts == 1
    assert np.array_equal(made, embedder.vector("Hello there"))


def test_a_follow_up_stands_with_the_turn_before_it() -> None:
    """ "And of France?" means nothing alone; older turns and answers are left out."""
    turns = [
        Message("user", "Hi"),
        Message("assistant", "Hello"),
        Message("user", "Capital of Italy?"),
        Message("assistant", "Rome"),
        Message("user", "And of France?"),
    ]

    assert identity_of(request(dialogue=tuple(turns))) == "Capital of Italy?\nAnd of France?"


class _Refusing(HashingEmbedder):
    async def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        raise ValueError("a lone surrogate")


async def test_a_text_that_cannot_be_embedded_is_the_embedder_s_error() -> None:
    """The adapter knows how to go on without a vector, but not what a ValueError means."""
    with pytest.raises(EmbedderError, match="a lone surrogate"):
        await embed(request(), _Refusing())
