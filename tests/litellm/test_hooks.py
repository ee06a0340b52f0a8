"""No failure of ours reaches the caller."""

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from echo_proxy.litellm.hooks import EchoCallback
from echo_proxy.litellm.runtime import get_desk, set_desk

HEALTHY = [{"model_info": {"id": "small"}}, {"model_info": {"id": "large"}}]


class FakeDesk:
    """Notes what it was asked; raises when it is broken."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.seen: list[Any] = []

    def _note(self, *what: Any) -> None:
        self.seen.append(what)
        if self.error is not None:
            raise self.error

    async def pick(self, group: str, healthy: Any, messages: Any, kwargs: Any) -> Any:
        self._note("pick", group, kwargs)
        return healthy[:1]

    def equip(self, kwargs: Any) -> Any:
        self._note("equip")
        return {**kwargs, "equipped": True}

    def note_attempt_failure(self, kwargs: Any, error: Any) -> None:
        self._note("attempt_failure", error)

    def note_words(self, kwargs: Any, response: Any) -> None:
        self._note("words", response)

    def note_failure(self, data: Any, error: Any) -> None:
        self._note("failure", error)

    def note_answer(self, kwargs: Any, response: Any) -> None:
        self._note("answer", response)

    def note_stream_end(self, call_id: str, is_whole: bool) -> None:
        self._note("stream_end", call_id, is_whole)

    def headers(self, data: Any) -> dict[str, str]:
        self._note("headers")
        return {"x-echo-arm": "small+2"}

    def default(self, group: str, healthy: Any) -> Any:
        return healthy

    def bypass(self, group: str, error: BaseException) -> None:
        self.seen.append(("bypass", group, type(error).__name__))


@pytest.fixture
def desk() -> Iterator[FakeDesk]:
    made = FakeDesk()
    set_desk(made)  # type: ignore[arg-type]
    yield made
    set_desk(None)


@pytest.fixture
def broken(desk: FakeDesk) -> FakeDesk:
    desk.error = RuntimeError("a bug of ours")
    return desk


async def stream(n: int, error: Exception | None = None) -> AsyncIterator[int]:
    for chunk in range(n):
        yield chunk
    if error is not None:
        raise error


async def everything(hook: EchoCallback) -> list[Any]:
    error = ValueError("upstream")
    chunks = hook.async_post_call_streaming_iterator_hook(None, stream(2), {"litellm_call_id": "c1"})
    return [
        await hook.async_filter_deployments("auto", HEALTHY, None, None),
        await hook.async_pre_call_deployment_hook({"model": "m"}, None),
        await hook.async_post_call_success_deployment_hook({}, "body", None),
        await hook.async_post_call_failure_deployment_hook({}, error, None),
        await hook.async_post_call_failure_hook({}, error, None),
        [chunk async for chunk in chunks],
        await hook.async_log_success_event({}, "body", None, None),
        await hook.async_post_call_response_headers_hook({}, None, None),
    ]


async def test_each_hook_hands_over_to_the_desk(desk: FakeDesk) -> None:
    """And gives LiteLLM what the desk says."""
    made = await everything(EchoCallback())

    assert made == [
        HEALTHY[:1],
        {"model": "m", "equipped": True},
        None,
        None,
        None,
        [0, 1],
        None,
        {"x-echo-arm": "small+2"},
    ]
    assert [one[0] for one in desk.seen] == [
        "pick",
        "equip",
        "words",
        "attempt_failure",
        "failure",
        "stream_end",
        "answer",
        "headers",
    ]


async def test_a_bug_of_ours_changes_nothing_for_the_caller(broken: FakeDesk) -> None:
    """Every hook gives what it would give without us, and counts the failure."""
    made = await everything(EchoCallback())

    assert made == [HEALTHY, None, None, None, None, [0, 1], None, {}]
    assert [one for one in broken.seen if one[0] == "bypass"] == [("bypass", "auto", "RuntimeError")] + [
        ("bypass", "", "RuntimeError")
    ] * 7


async def test_a_worker_without_echo_passes_everything_through(caplog: pytest.LogCaptureFixture) -> None:
    """And complains once."""
    hook = EchoCallback()

    first, second = await everything(hook), await everything(hook)

    assert get_desk() is None
    assert first == second == [HEALTHY, None, None, None, None, [0, 1], None, {}]
    assert [line.message for line in caplog.records if "was not started" in line.message] == [caplog.messages[0]]


async def test_a_stream_s_end_is_seen(desk: FakeDesk) -> None:
    """Read to its end, left by its caller, or broken; an error goes on to the caller."""
    data = {"litellm_call_id": "c1"}
    whole = EchoCallback().async_post_call_streaming_iterator_hook(None, stream(2), data)
    left = EchoCallback().async_post_call_streaming_iterator_hook(None, stream(2), data)
    torn = EchoCallback().async_post_call_streaming_iterator_hook(None, stream(1, ValueError("torn")), data)

    assert [chunk async for chunk in whole] == [0, 1]
    assert await anext(left) == 0
    await left.aclose()
    with pytest.raises(ValueError, match="torn"):
        _ = [chunk async for chunk in torn]
    assert desk.seen == [("stream_end", data, True), ("stream_end", data, False), ("stream_end", data, False)]


def test_all_hooks_stand_in_the_class_itself() -> None:
    """LiteLLM looks some of them up in the class and not in its bases."""
    hooks = {name for name in vars(EchoCallback) if name.startswith("async_")}

    assert hooks == {
        "async_filter_deployments",
        "async_pre_call_deployment_hook",
        "async_post_call_success_deployment_hook",
        "async_post_call_failure_deployment_hook",
        "async_post_call_failure_hook",
        "async_post_call_streaming_iterator_hook",
        "async_log_success_event",
        "async_post_call_response_headers_hook",
    }
