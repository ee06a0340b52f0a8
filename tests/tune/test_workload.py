import pytest
from hypothesis import given
from hypothesis import strategies as st

from echo_proxy.engine.chat import parse_chat
from echo_proxy.tune.records import Load
from echo_proxy.tune.workload import PROBE, Words, agreement, bodies, pick_words, plan_load, quality_bodies

WORDS = Words(tuple(f" w{chr(97 + i // 26)}{chr(97 + i % 26)}" for i in range(200)), ends=(0, 2))
LOAD = Load(n_requests=4, n_clients=2, n_prompt_tokens=100, n_answer_tokens=20)


def texts(number: int) -> list[str]:
    return [body["messages"][0]["content"] for body in bodies(WORDS, LOAD, number)]


def test_a_round_follows_from_its_number() -> None:
    """The same for all candidates, another one each time."""
    assert bodies(WORDS, LOAD, 3) == bodies(WORDS, LOAD, 3)
    assert len({*texts(3), *texts(4)}) == 8


def test_prompts_share_their_first_third_and_no_more() -> None:
    """As requests with one system prompt do."""
    words = [text.split() for text in (*texts(1), *texts(2))]

    assert {len(one) for one in words} == {84}
    assert len({tuple(one[:28]) for one in words}) == 1
    assert len({tuple(one[28:36]) for one in words}) == 8


def test_answers_have_a_fixed_length() -> None:
    """What would end them is forbidden."""
    request = parse_chat(bodies(WORDS, LOAD, 1)[0])

    assert request.max_tokens == 20
    assert dict(request.sampling.logit_bias) == {0: -1000.0, 2: -1000.0}
    assert {parse_chat(one).sampling.temperature for one in quality_bodies(WORDS, LOAD)} == {0.0}


def test_words_are_tokens_that_look_like_words() -> None:
    """In the order of the vocabulary."""
    pieces = [b"", b"\xc3", b" the", b"xy", b" 12", *(f" ab{chr(97 + i)}".encode() for i in range(26)), b" of"] * 2

    assert pick_words(pieces, [7]).pieces[:2] == (" the", " aba")
    assert pick_words(pieces, [7]).ends == (7,)


def test_a_vocabulary_without_words_serves_too() -> None:
    """One of characters, for example."""
    assert pick_words([b"a", b" ", b"\xff", b"b"], []).pieces == ("a", "b")


@given(st.floats(1e-4, 100), st.floats(1e-4, 100), st.floats(0.1, 20), st.sampled_from([1, 8, 64]))
def test_a_round_is_about_as_long_as_wished(read_s: float, write_s: float, target_s: float, n_clients: int) -> None:
    """Never longer than the shortest sensible requests take, and each client has one."""
    wanted = Load(max(n_clients, 3), n_clients, 300, 100)
    load = plan_load(wanted, read_s, read_s + write_s, target_s)

    one_s = load.n_prompt_tokens * read_s / PROBE.n_prompt_tokens + load.n_answer_tokens * write_s / (
        PROBE.n_answer_tokens
    )
    assert load.n_requests >= n_clients
    assert load.n_prompt_tokens <= 300
    assert load.n_answer_tokens <= 100
    assert load.n_requests * one_s <= target_s * 1.001 or (load.n_answer_tokens == 16 or load.n_prompt_tokens == 32)


def test_agreement_counts_up_to_the_first_difference() -> None:
    """What follows is another text."""
    assert agreement(["abcd", ""], ["abcd", ""]) == 1.0
    assert agreement(["abcd", "xbcd"], ["abxd", "abcd"]) == 0.25
    assert agreement(["ab"], ["abcd"]) == pytest.approx(0.5)
