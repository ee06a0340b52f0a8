"""Rules of hosted embeddings, over real HTTP."""

import socket
import threading
from collections.abc import Iterator

import numpy as np
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from echo_proxy.embedders.hosted import HostedEmbedder, unit_rows
from echo_proxy.errors import EmbedderError
from echo_proxy.protocols import Embedder

Item = dict[str, object]


class ScriptedUpstream:
    """An OpenAI-compatible /v1/embeddings on loopback; the name of the model says how it behaves."""

    def __init__(self) -> None:
        self.bodies: list[dict[str, object]] = []
        self.keys: list[str | None] = []
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}/v1"
        app = Starlette(routes=[Route("/v1/embeddings", self._embeddings, methods=["POST"])])
        self._server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="off"))
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [self._socket]})

    def __enter__(self) -> "ScriptedUpstream":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join(timeout=10)
        self._socket.close()

    async def _embeddings(self, request: Request) -> JSONResponse:
        body = await request.json()
        self.bodies.append(body)
        self.keys.append(request.headers.get("authorization"))
        if body["model"] == "failing":
            return JSONResponse({"error": {"message": "out of order", "type": "server_error"}}, status_code=500)
        if body["model"] == "refusing":
            return JSONResponse({"error": {"message": "bad key", "type": "auth"}}, status_code=401)
        if body["model"] == "hanging":
            await request.receive()  # returns when the client has gone
        items = [self._item(body["model"], index, text) for index, text in enumerate(body["input"])]
        return JSONResponse({"object": "list", "model": body["model"], "data": items[::-1], "usage": _USAGE})

    def _item(self, model: str, index: int, text: str) -> Item:
        """Points along the axis of the text's length, times three."""
        row = [0.0] * (3 if model == "narrow" else 4)
        if model != "zero":
            row[len(text) % 3] = 3.0
        return {"object": "embedding", "index": index, "embedding": row}


_USAGE = {"prompt_tokens": 1, "total_tokens": 1}


@pytest.fixture(scope="module")
def upstream() -> Iterator[ScriptedUpstream]:
    """A running upstream, shared by this file's tests."""
    with ScriptedUpstream() as running:
        yield running


def hosted(upstream: ScriptedUpstream, model: str = "good", timeout_s: float = 10.0) -> HostedEmbedder:
    """An embedder of four dimensions that asks the upstream."""
    return HostedEmbedder(f"openai/{model}", 4, api_base=upstream.url, api_key="sk-test", timeout_s=timeout_s)


async def test_rows_are_unit_vectors_in_the_order_of_the_texts(upstream: ScriptedUpstream) -> None:
    """Rows are normalised and put in order by index; the upstream sends them backwards and of length three."""
    embedder: Embedder = hosted(upstream)
    rows = await embedder.embed(["a", "bb", "ccc"])

    assert rows.dtype == np.float32
    assert rows.tolist() == [[0, 1, 0, 0], [0, 0, 1, 0], [1, 0, 0, 0]]
    assert (embedder.model, embedder.dimensions) == ("openai/good", 4)


async def test_one_call_carries_all_texts_and_the_key(upstream: ScriptedUpstream) -> None:
    """All texts go to the given address in one request, with the given key."""
    n_before = len(upstream.bodies)
    await hosted(upstream).embed(["a", "b", "c"])

    assert [body["input"] for body in upstream.bodies[n_before:]] == [["a", "b", "c"]]
    assert upstream.keys[-1] == "Bearer sk-test"


async def test_no_texts_ask_nobody(upstream: ScriptedUpstream) -> None:
    """An empty list costs no request."""
    n_before = len(upstream.bodies)
    rows = await hosted(upstream).embed([])

    assert rows.shape == (0, 4)
    assert len(upstream.bodies) == n_before


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("failing", "got InternalServerError"),
        ("refusing", "got AuthenticationError"),
        ("narrow", r"expected embeddings of shape \(4,\), got \(3,\)"),
        ("zero", "finite length above 0"),
    ],
)
async def test_a_wrong_answer_is_an_embedder_error(upstream: ScriptedUpstream, model: str, message: str) -> None:
    """A failing, refusing or wrong provider gives one kind of error, which says what came."""
    with pytest.raises(EmbedderError, match=message):
        await hosted(upstream, model).embed(["a"])


async def test_a_hanging_provider_is_given_up(upstream: ScriptedUpstream) -> None:
    """After the timeout the caller gets an error instead of waiting on."""
    with pytest.raises(EmbedderError, match="openai/hanging"):
        await hosted(upstream, "hanging", timeout_s=0.2).embed(["a"])


async def test_an_address_where_nobody_listens_is_an_embedder_error() -> None:
    """A provider that cannot be reached is an error of ours, not of the HTTP client."""
    with socket.create_server(("127.0.0.1", 0)) as unused:
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/v1"
    with pytest.raises(EmbedderError, match="expected embeddings from openai/good"):
        await HostedEmbedder("openai/good", 4, api_base=url, api_key="sk-test").embed(["a"])


async def test_a_blank_text_asks_nobody(upstream: ScriptedUpstream) -> None:
    """A blank text is refused here, before it costs a request."""
    n_before = len(upstream.bodies)
    with pytest.raises(ValueError, match="visible character"):
        await hosted(upstream).embed([" "])

    assert len(upstream.bodies) == n_before


@pytest.mark.parametrize(
    ("items", "message"),
    [
        ([], "expected 1 embeddings, got 0"),
        ([{"index": 0}], "lists of numbers"),
        ([{"index": 0, "embedding": "AAAA"}], "lists of numbers"),
        ([{"index": 0, "embedding": [1.0, float("nan")]}], "finite length"),
        ([{"index": 0, "embedding": [[1.0, 0.0]]}], r"shape \(2,\), got \(1, 2\)"),
    ],
)
def test_malformed_items_are_refused(items: list[Item], message: str) -> None:
    """Whatever a provider puts in place of an embedding, it does not reach the index."""
    with pytest.raises(EmbedderError, match=message):
        unit_rows(items, n_texts=1, dimensions=2)


@pytest.mark.parametrize(("dimensions", "timeout_s"), [(0, 1.0), (4, 0.0), (4, float("nan"))])
def test_settings_out_of_range_are_refused(dimensions: int, timeout_s: float) -> None:
    """Vectors have at least one dimension, and a call has some time."""
    with pytest.raises(ValueError, match="must be"):
        HostedEmbedder("openai/good", dimensions, timeout_s=timeout_s)
