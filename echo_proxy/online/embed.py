"""Which vector stands for this request?"""

from echo_proxy.errors import EmbedderError
from echo_proxy.protocols import Embedder
from echo_proxy.types import Embedding, Request


async def embed(request: Request, embedder: Embedder) -> Embedding:
    """Unit vector of the request, shape (dimensions,). Raises EmbedderError."""
    try:
        vectors = await embedder.embed([identity_of(request)])
    except ValueError as error:  # a text that no tokenizer takes, such as a lone surrogate
        raise EmbedderError(f"request cannot be embedded: {error}") from error
    vector: Embedding = vectors[0]
    return vector


def identity_of(request: Request) -> str:
    """The text that stands for the request.

    The user's turn, and in a dialogue the user's turn before it too: "and of France?" means nothing alone.
    """
    asked = [message.content for message in request.dialogue if message.role == "user"]
    return "\n".join(asked[-2:])
