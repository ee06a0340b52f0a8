"""Many requests share a model, and each gets what it would have got alone."""

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from echo_proxy.engine.chat import ChatRejected, ChatRequest, Sampling, Service
from echo_proxy.engine.runner import Logits
from echo_proxy.engine.work import Event, Failed, Finished, Overloaded, Piece
from tests.engine.engines import Mail, ask, running
from tests.engine.language_fake import ALPHABET, FakeSampler
from tests.engine.runner_fake import FakeRunner, Rule, following, hashed

T = TypeVar("T")
_LETTERS = "abcdefghijklmnopqrstuvwxyz"
NEVER_ENDS = following(len(ALPHABET), lambda tokens: 1 + len(tokens) % 26)
"""A model whose answers have no end."""


def slowly(rule: Rule) -> Rule:
    """The same model, which takes its time for each token of a text that begins with "a"."""

    def slow(tokens: Sequence[int]) -> Logits:
        time.sleep(0.001 if tokens[0] == ALPHABET.index("a") else 0)
        return rule(tokens)

    return slow


class Gate:
    """A model that computes nothing before the gate is opened."""

    def __init__(self, rule: Rule) -> None:
        self.opens, self.is_reached = threading.Event(), threading.Event()
        self._rule = rule

    def passed(self, then: Callable[[], T]) -> T:
        """Its result, once the gate is open."""
        self.is_reached.set()
        assert self.opens.wait(60)
        return then()

    def __call__(self, tokens: Sequence[int]) -> Logits:
        """See Rule."""
        return self.passed(lambda: self._rule(tokens))


@dataclass
class Clock:
    """Stands still but when it is moved."""

    now: float = 0.0

    def __call__(self) -> float:
        """Monotonic seconds."""
        return self.now


def endless(n_seats: int = 12, n_cells: int = 512) -> FakeRunner:
    """A model whose answers end with max_tokens."""
    return FakeRunner(n_seats, n_cells, 32, len(ALPHABET), rule=NEVER_ENDS)


@settings(max_examples=25)
@given(
    st.lists(st.tuples(st.text(_LETTERS, min_size=1, max_size=60), st.integers(1, 30)), min_size=1, max_size=12),
    st.booleans(),
    st.sampled_from([70, 100, 512]),
    st.sampled_from([0, 4096]),
)
def test_texts_are_those_of_each_alone(
    asked: list[tuple[str, int]], drafting: bool, n_cells: int, ram_bytes: int
) -> None:
    """Whatever shares the batch, is guessed, has to wait for cells or is paused for them."""
    runner = FakeRunner(n_seats=12, n_cells=max(n_cells, 96), n_batch=16, n_vocab=len(ALPHABET))
    requests = [ask(text, max_tokens=n) for text, n in asked]
    with running(runner, drafting=drafting, n_ctx=90, ram_bytes=ram_bytes, max_queue_s=600.0) as bench:
        mails = [bench.send(request)[1] for request in requests]
        texts = [mail.finished().text for mail in mails]
        expected = [bench.text(request) for request in requests]

    assert texts == expected


def test_requests_are_answered_in_one_batch() -> None:
    """Four answers of 40 tokens take little more than 40 steps."""
    with running(endless()) as bench:
        mails = [bench.send(ask(letter, max_tokens=40))[1] for letter in "abcd"]
        texts = [mail.finished().text for mail in mails]
        n_decodes = len(bench.runner.decodes)

    assert [len(text) for text in texts] == [40] * 4
    assert n_decodes < 60


def test_sampled_texts_are_those_of_each_alone() -> None:
    """A seed gives the same text beside others, and with drafts, as alone."""
    requests = [ask("abcabcabc", max_tokens=20, sampling=Sampling(temperature=1.0, seed=seed)) for seed in range(8)]
    with running() as bench:
        alone = [bench.answer(request).text for request in requests]
    with running(drafting=True) as bench:
        mails = [bench.send(request)[1] for request in requests]
        together = [mail.finished().text for mail in mails]

    assert together == alone
    assert len(set(alone)) > 1


def test_pieces_add_up_to_the_text() -> None:
    """A stream brings the same text in several pieces, and then its end."""
    with running(endless()) as bench:
        _, mail = bench.send(ask("abc", max_tokens=10, is_streamed=True))
        end = mail.finished()

    assert "".join(piece.text for piece in mail.pieces) == end.text
    assert len(mail.pieces) > 5


def test_a_stop_text_over_several_tokens_ends_the_answer() -> None:
    """It is not part of the answer, nor is what was guessed beyond it."""
    for drafting in (False, True):
        with running(endless(), drafting=drafting) as bench:
            whole = bench.answer(ask("abcdef", max_tokens=20)).text
            end = bench.answer(ask("abcdef", max_tokens=20, stop=(whole[7:10],)))

        assert (end.text, end.reason) == (whole[:7], "stop")


def test_the_length_of_an_answer_is_bounded() -> None:
    """By max_tokens, and by the context where nothing is said."""
    with running(endless(), n_ctx=30) as bench:
        short = bench.answer(ask("abcd", max_tokens=3))
        long = bench.answer(ask("abcd", max_tokens=1000))

    assert (len(short.text), short.reason, short.usage.n_completion_tokens) == (3, "length", 3)
    assert (len(long.text), long.reason) == (26, "length")


def test_a_prompt_that_is_too_long_is_refused() -> None:
    """At once, with the number of tokens."""
    with running(n_ctx=10) as bench, pytest.raises(ChatRejected, match=r"expected fewer than 10 tokens.*got 10"):
        bench.engine.submit(ask("a" * 10), print)


def test_a_text_that_cannot_fit_is_not_even_tokenized() -> None:
    """Longer than the longest pieces would make it: nobody waits for its tokens to be counted."""
    with running(n_ctx=10) as bench, pytest.raises(ChatRejected, match=r"got at least 12") as caught:
        bench.engine.submit(ask("-" * 12), print)  # a dash has no token here

    assert caught.value.code == "context_length_exceeded"


def test_long_hints_are_cut_before_they_are_tokenized() -> None:
    """Four hints, each as long as the context can be; the rest costs nothing."""
    hints = ("a" * 10 + "-", *"abc", "-")
    with running(n_ctx=10, drafting=True) as bench:
        end = bench.answer(ask("b", max_tokens=3, service=Service(hints=hints)))

        assert end.text == bench.text(ask("b", max_tokens=3))


def test_what_cannot_be_sampled_is_refused() -> None:
    """Where that can be seen at once, at once; else the caller is told later. The engine goes on."""
    with running() as bench:
        with pytest.raises(ChatRejected, match="expected no JSON"):
            bench.send(ask("a", grammar="json"))
        event = bench.send(ask("a", grammar="json", json_schema="{}"))[1].end()
        text = bench.answer(ask("a")).text

        assert isinstance(event, Failed)
        assert isinstance(event.error, ChatRejected)
        assert text == bench.text(ask("a"))
        assert bench.engine.status().n_served == 2


def test_a_cancelled_request_leaves() -> None:
    """In the batch and in the queue; what it held is free for others."""
    with running(endless(n_cells=4096), n_parallel=1, n_ctx=4000) as bench:
        running_job, mail = bench.send(ask("a", max_tokens=3900, is_streamed=True))
        mail.events.get(timeout=60)
        waiting_job, _ = bench.send(ask("b", max_tokens=3900))
        waiting_job.cancel()
        running_job.cancel()
        bench.wait(lambda: bench.engine.status().n_served == 2)
        status = bench.engine.status()
        text = bench.answer(ask("c", max_tokens=5)).text

        assert (status.n_running, status.n_waiting) == (0, 0)
        assert text == bench.text(ask("c", max_tokens=5))
        assert all(sampler.is_closed for sampler in bench.language.samplers)


def test_chances_are_the_models_own() -> None:
    """Of each token and of its likeliest rivals, before temperature."""
    with running() as bench:
        end = bench.answer(ask("abc", max_tokens=4, n_logprobs=2))
        logits = hashed(len(ALPHABET))(bench.language.tokenize("abc")).astype(np.float64)
    logprobs = logits - np.log(np.exp(logits).sum())

    first = end.chances[0]
    assert "".join(one.text for one in end.chances) == end.text
    assert first.logprob == pytest.approx(logprobs.max(), abs=1e-5)
    assert [one.logprob for one in first.rivals] == pytest.approx(sorted(logprobs)[:-3:-1], abs=1e-5)


def test_chances_of_a_stream_come_with_its_pieces() -> None:
    """All of them, once."""
    with running() as bench:
        whole = bench.answer(ask("abc", max_tokens=8, n_logprobs=0))
        _, mail = bench.send(ask("abc", max_tokens=8, n_logprobs=0, is_streamed=True))
        mail.finished()

    assert [one for piece in mail.pieces for one in piece.chances] == list(whole.chances)


# ------------------------------------------------------------------ one request's own fault


class _Blunt(FakeSampler):
    """Raises at its third draw."""

    def draw(self, row: int) -> int:
        if len(self.seen) == 2:
            raise ValueError("probabilities contain NaN")
        return super().draw(row)


@pytest.mark.parametrize("drafting", [False, True])
def test_a_sampler_that_fails_ends_its_own_request(drafting: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The others in the batch go on, and its seat is free again."""
    with running(endless(), drafting=drafting) as bench:
        make = bench.language.sampler
        monkeypatch.setattr(
            bench.language,
            "sampler",
            lambda request: _Blunt(bench.runner, request) if request.sampling.seed == 13 else make(request),
        )
        bad = ask("abcabc", max_tokens=20, sampling=Sampling(temperature=0.0, seed=13))
        good = [ask(letter, max_tokens=20) for letter in "def"]
        mails = [bench.send(request)[1] for request in (bad, *good)]
        event, *ends = [mail.end() for mail in mails]
        again = bench.answer(ask("abcabc", max_tokens=20)).text

        assert isinstance(event, Failed)
        assert str(event.error) == "this request failed: ValueError: probabilities contain NaN"
        assert [end.text for end in ends if isinstance(end, Finished)] == [bench.text(request) for request in good]
        assert again == bench.text(ask("abcabc", max_tokens=20))
        assert bench.engine.status().n_served == 5


def test_no_memory_for_a_sampler_ends_its_own_request(monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as for a grammar that grows without bounds; the engine goes on."""

    def fail(request: ChatRequest) -> FakeSampler:
        raise MemoryError

    with running() as bench:
        with monkeypatch.context() as patched:
            patched.setattr(bench.language, "sampler", fail)
            event = bench.send(ask("a"))[1].end()
        text = bench.answer(ask("a")).text

        assert isinstance(event, Failed)
        assert "MemoryError" in str(event.error)
        assert text == bench.text(ask("a"))


@pytest.mark.parametrize("is_streamed", [False, True])
def test_a_caller_that_cannot_be_told_ends_its_own_request(is_streamed: bool) -> None:
    """Its stream ends with the first piece that does not arrive; others hear what they asked."""
    heard: list[Event] = []

    def deliver(event: Event) -> None:
        heard.append(event)
        raise OSError("the loop is closed")

    with running(endless()) as bench:
        bench.engine.submit(ask("a", max_tokens=30, is_streamed=is_streamed), deliver)
        text = bench.answer(ask("b", max_tokens=30)).text
        bench.wait(lambda: bench.engine.status().n_served == 2)

        assert text == bench.text(ask("b", max_tokens=30))
        assert [type(event) for event in heard] == ([Piece, Failed] if is_streamed else [Finished])
        assert all(sampler.is_closed for sampler in bench.language.samplers)


# ------------------------------------------------------------------ what others see


def test_an_answer_is_counted_before_it_is_told() -> None:
    """Whoever hears its end and asks at once finds it among those that were served."""
    seen: list[tuple[int, int]] = []
    done = threading.Event()

    def deliver(event: Event) -> None:
        status = bench.engine.status()
        seen.append((status.n_served, status.n_running))
        done.set()

    with running() as bench:
        bench.engine.submit(ask("a"), deliver)
        assert done.wait(60)

    assert seen == [(1, 0)]


@pytest.mark.parametrize("where", ["decode", "sampler"])
def test_a_step_that_hangs_is_seen(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """How long it takes is told at once, by an engine that does nothing else any more; idle, it takes no time."""
    clock = Clock()
    gate = Gate(NEVER_ENDS)
    runner = FakeRunner(n_seats=4, n_vocab=len(ALPHABET), rule=gate if where == "decode" else NEVER_ENDS)
    with running(runner, clock=clock) as bench:
        make = bench.language.sampler
        if where == "sampler":
            monkeypatch.setattr(bench.language, "sampler", lambda request: gate.passed(lambda: make(request)))
        _, mail = bench.send(ask("a", max_tokens=3))
        assert gate.is_reached.wait(60)
        clock.now += 42.0
        with ThreadPoolExecutor(1) as others:
            hung = others.submit(bench.engine.status)
            others.submit(bench.send, ask("b")).result(timeout=60)
            status = hung.result(timeout=60)
        gate.opens.set()
        mail.finished()
        bench.wait(lambda: bench.engine.status().n_served == 2)
        bench.wait(lambda: bench.engine.status().busy_s == 0)

    assert (status.busy_s, status.n_running) == (42.0, 1)


def test_time_before_the_engine_counts() -> None:
    """A request that waited for its model to be loaded has waited: its deadline does not begin again."""
    clock = Clock(100.0)
    with running(clock=clock) as bench:
        mail, late = Mail(), Mail()
        bench.engine.submit(ask("a"), mail.events.put, arrived_at=95.0)
        usage = mail.finished().usage
        bench.engine.submit(ask("a", service=Service(deadline_s=4.0)), late.events.put, arrived_at=95.0)
        event = late.end()

    assert usage.queue_s == 5.0
    assert isinstance(event, Failed)
    assert isinstance(event.error, Overloaded)


def test_loading_is_no_queueing() -> None:
    """Who waited long for the model to be loaded is not refused because the queue allows short waits only."""
    with running(clock=Clock(1000.0), max_queue_s=5.0) as bench:
        mail = Mail()
        bench.engine.submit(ask("a"), mail.events.put, arrived_at=900.0)

        assert mail.finished().usage.queue_s == 100.0


# ------------------------------------------------------------------ prefixes


def test_a_prompt_is_read_once() -> None:
    """What was read for one request is there for the next."""
    with running() as bench:
        first = bench.answer(ask("the same long beginning, a"))
        again = bench.answer(ask("the same long beginning, b"))

        assert (first.usage.n_cached_tokens, again.usage.n_cached_tokens) == (0, 25)
        assert again.text == bench.text(ask("the same long beginning, b"))


def test_prompts_that_come_together_are_read_once() -> None:
    """The second waits for the first one's reading instead of doing the same work beside it."""
    beginning = "x" * 100
    with running(endless()) as bench:
        mails = [bench.send(ask(beginning + letter, max_tokens=2))[1] for letter in "abcd"]
        cached = sorted(mail.finished().usage.n_cached_tokens for mail in mails)

    assert cached[0] == 0
    assert cached[1] >= 100 - 32


def test_scopes_do_not_share_prefixes() -> None:
    """How fast an answer is must not tell one tenant what another has asked."""
    requests = [ask("what nobody else may know", service=Service(scope=scope)) for scope in ("a", "b", "a")]
    with running(is_shared=False) as bench:
        cached = [bench.answer(request).usage.n_cached_tokens for request in requests]

    assert cached[:2] == [0, 0]
    assert cached[2] > 0


# ------------------------------------------------------------------ drafts


def test_hints_save_steps() -> None:
    """The answer that was retrieved is checked in a few steps, and the text is the same."""
    with running() as bench:
        plain = bench.answer(ask("abc", max_tokens=40))
        n_plain = len(bench.runner.decodes)
    with running(drafting=True) as bench:
        hinted = bench.answer(ask("abc", max_tokens=40, service=Service(hints=(plain.text,))))
        n_hinted = len(bench.runner.decodes)

    assert hinted.text == plain.text
    assert n_hinted < n_plain / 2
    assert hinted.usage.n_accepted_tokens > 0.7 * len(plain.text)


def test_wrong_hints_change_nothing() -> None:
    """However the drafts fail, the text is the same."""
    with running() as bench:
        plain = bench.answer(ask("abc", max_tokens=40)).text
    with running(drafting=True) as bench:
        hints = (plain[:5] + "zzzz" + plain[9:], "qqqqqqqqq", plain[1:])
        hinted = bench.answer(ask("abc", max_tokens=40, service=Service(hints=hints))).text

    assert hinted == plain


# ------------------------------------------------------------------ when it is too much


def test_requests_that_ran_out_of_cells_do_not_come_and_go() -> None:
    """Answers of 300 tokens in 700 cells, when half is expected: those that do not fit wait, and are not paused again
    at every step."""
    gate = Gate(NEVER_ENDS)
    runner = FakeRunner(12, 700, 32, len(ALPHABET), rule=gate)
    with running(runner, n_ctx=400, ram_bytes=10**6, max_queue_s=600.0) as bench:
        mails = [bench.send(ask(letter, max_tokens=300))[1] for letter in "abcdefgh"]
        gate.opens.set()
        texts = [mail.finished().text for mail in mails]
        counts = bench.engine.status().counts

        assert [len(text) for text in texts] == [300] * 8
        assert 1 <= counts["pauses"] <= 8


def test_too_many_requests_are_refused() -> None:
    """With a time after which to come again."""
    with running(endless(n_cells=4096), n_parallel=1, n_ctx=4000, max_queue=1) as bench:
        jobs = [bench.send(ask(letter, max_tokens=3900))[0] for letter in "ab"]
        with pytest.raises(Overloaded) as caught:
            bench.send(ask("c", max_tokens=3900))
        for job in jobs:
            job.cancel()

    assert caught.value.retry_after_s >= 1


def test_priority_pushes_out_and_comes_first() -> None:
    """A full queue makes room for what is more urgent; who had to go is told."""
    with running(endless(n_cells=4096), n_parallel=1, n_ctx=4000, max_queue=1) as bench:
        long, _ = bench.send(ask("a", max_tokens=3900))
        bench.wait(lambda: bench.engine.status().n_running == 1)
        _, usual = bench.send(ask("b"))
        _, urgent = bench.send(ask("c", service=Service(priority=5)))
        refused = usual.end()
        answered = urgent.finished()
        long.cancel()

        assert isinstance(refused, Failed)
        assert isinstance(refused.error, Overloaded)
        assert answered.text == bench.text(ask("c"))


def test_a_paused_answer_goes_on_where_it_was() -> None:
    """What was written before the pause is not lost, nor written again."""
    slow = FakeRunner(n_seats=4, n_cells=1024, n_vocab=len(ALPHABET), rule=slowly(NEVER_ENDS))
    with running(slow, n_parallel=1, n_ctx=1000, ram_bytes=10**6) as bench:
        for _ in range(9):  # it must know by experience which are long
            bench.answer(ask("c", max_tokens=900))
            bench.answer(ask("d", max_tokens=5))
        _, long = bench.send(ask("a", max_tokens=900, is_streamed=True))
        long.pieces.append(long.events.get(timeout=60))  # type: ignore[arg-type]
        urgent = bench.answer(ask("b", max_tokens=5, service=Service(priority=9)))
        end = long.finished()
        counts = bench.engine.status().counts

        assert urgent.text == bench.text(ask("b", max_tokens=5))
        assert end.text == bench.text(ask("a", max_tokens=900))
        assert "".join(piece.text for piece in long.pieces) == end.text
        assert counts["pauses"] >= 1


def test_a_failed_step_fails_its_requests_only() -> None:
    """They are told, and the next ones are served."""
    runner = endless()
    runner.failures.append(RuntimeError("the GPU is gone"))
    with running(runner) as bench:
        event = bench.send(ask("a"))[1].end()
        text = bench.answer(ask("a")).text

        assert isinstance(event, Failed)
        assert "the GPU is gone" in str(event.error)
        assert text == bench.text(ask("a"))


def test_closing_tells_those_who_wait() -> None:
    """Nobody waits for ever; the model's memory is freed."""
    with running(endless(n_cells=4096), n_parallel=1, n_ctx=4000) as bench:
        mails = [bench.send(ask(letter, max_tokens=3900))[1] for letter in "ab"]
        bench.engine.close()
        events = [mail.end() for mail in mails]

        assert [type(event) for event in events] == [Failed, Failed]
        assert bench.runner.is_closed
        assert all(sampler.is_closed for sampler in bench.language.samplers)
        assert bench.engine.status().n_served == 2
        with pytest.raises(Overloaded):
            bench.engine.submit(ask("c"), print)


def test_what_left_the_queue_is_freed_though_nothing_else_is_to_do() -> None:
    """A waiting one that was cancelled holds nothing when the engine falls idle, such as a state that was pinned."""
    gate = Gate(NEVER_ENDS)
    with running(FakeRunner(n_seats=4, n_vocab=len(ALPHABET), rule=gate), n_parallel=1) as bench:
        _, mail = bench.send(ask("a", max_tokens=1))
        assert gate.is_reached.wait(60)
        waiting, _ = bench.send(ask("b"))
        waiting.cancel()
        assert bench.engine.status().n_waiting == 0
        gate.opens.set()
        mail.finished()

        bench.wait(lambda: not bench.engine._left)
