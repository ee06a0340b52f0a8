from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from echo_proxy.engine.chat import Sampling
from echo_proxy.engine.co_decode import HandOver, LittleDrafter, may_relax
from echo_proxy.engine.gate import FEATURES, AgreementLog, Gate
from echo_proxy.engine.runner import Draft, DraftAsk, Language, Logits, Run, Runner
from tests.engine.draft_loop import ArgmaxSampler, Loop
from tests.engine.engines import ask as chat
from tests.engine.language_fake import FakeLanguage
from tests.engine.runner_fake import FakeRunner, Rule, hashed

if TYPE_CHECKING:
    from echo_proxy.llama.runner import LlamaRunner

PROMPT = (3, 1, 4, 1, 5)
N_VOCAB = 32
TIE = 0.05
"""Logits of the same token differ by less between decodes of different sizes; 0.013 was seen to turn a choice."""
SURE = HandOver(fallback=0.0, window=8)


def mostly(rule: Rule, other: Rule) -> Rule:
    """Like one model, but for every third position."""
    return lambda tokens: rule(tokens) if len(tokens) % 3 else other(tokens)


def pair(seed: int = 0) -> tuple[FakeRunner, FakeRunner]:
    """A large and a little model, which often agree."""
    large = hashed(N_VOCAB)
    shifted: Rule = lambda tokens: large([*tokens, seed])  # noqa: E731 - a rule is a plain function of the tokens
    return FakeRunner(rule=large), FakeRunner(rule=mostly(large, shifted))


def no_end(token: int) -> bool:
    """No token ends an answer."""
    return False


def loop(large: Runner, little: LittleDrafter, rollback: float) -> Loop:
    """Both models writing one text."""
    return Loop(large, ArgmaxSampler(large), little, rollback)


def endless(runner: FakeRunner) -> FakeLanguage:
    """A language in which no token ends an answer."""
    language = FakeLanguage(runner)
    language.is_end = no_end  # type: ignore[method-assign]
    return language


def drafter(little: FakeRunner, rule: HandOver, agreement: AgreementLog | None = None) -> LittleDrafter:
    """Over the fake little model."""
    return LittleDrafter(little, endless(little), rule, agreement)


def ask(tokens: Sequence[int], most_tokens: int = 8) -> DraftAsk:
    """For one sequence."""
    return DraftAsk(0, tokens, len(PROMPT), most_tokens, 1, ())


def confident(chances: Sequence[float]) -> Rule:
    """Sure of token 1 to that degree at each position from the end of PROMPT on."""

    def rule(tokens: Sequence[int]) -> Logits:
        chance = chances[min(max(len(tokens) - len(PROMPT), 0), len(chances) - 1)]
        logits = np.full(N_VOCAB, np.log((1 - chance) / (N_VOCAB - 1)), np.float32)
        logits[1] = np.log(chance)
        return logits

    return rule


# ------------------------------------------------------------------ when it hands over


def test_writes_until_it_is_unsure() -> None:
    """The draft ends before the first token below the fallback."""
    little = FakeRunner(rule=confident([0.9, 0.8, 0.7, 0.4, 0.9]))

    assert drafter(little, HandOver(0.6, 8)).draft([ask(PROMPT)]) == [[Draft((1, 1, 1), "little")]]


def test_writes_at_most_a_window() -> None:
    """However sure it is, the large model looks after so many tokens; or earlier, when fewer can be used."""
    little = FakeRunner(rule=confident([0.9]))
    sure = drafter(little, HandOver(0.6, 5))

    assert [len(one[0].tokens) for one in (sure.draft([ask(PROMPT)])[0], sure.draft([ask(PROMPT, 2)])[0])] == [5, 2]


def test_fallback_two_reads_nothing() -> None:
    """What always hands over need not be asked."""
    little = FakeRunner()

    assert drafter(little, HandOver(2.0, 8)).draft([ask(PROMPT)]) == [[]]
    assert little.decodes == []


def test_a_gate_decides_in_its_place() -> None:
    """The fallback has no say then."""
    chance_of_60_percent = float(np.log(0.6 / 0.4))
    gate = Gate("a", "b", FEATURES, (-100.0, 0, 0, 0, 0, 0, 0), 100 * chance_of_60_percent, 0.5)
    little = FakeRunner(rule=confident([0.9, 0.8, 0.5]))
    ((draft,),) = drafter(little, HandOver(2.0, 8, gate)).draft([ask(PROMPT)])

    assert draft.tokens == (1, 1)
    assert [one[FEATURES.index("log_position")] for one in draft.features] == pytest.approx([0, np.log(2)])


def test_numbers_are_seen() -> None:
    """Whether a token has a digit is one of the features."""
    little = FakeRunner(rule=confident([0.9]))
    language = endless(little)
    language.piece = lambda token: b"7"  # type: ignore[method-assign]
    ((draft,),) = LittleDrafter(little, language, SURE, AgreementLog("a", "b")).draft([ask(PROMPT, 1)])

    assert draft.features[0][FEATURES.index("is_number")] == 1.0


# ------------------------------------------------------------------ what is learned


def test_agreement_is_noted_for_drafted_and_withheld_tokens() -> None:
    """Those that were written as the large model looked at them, and the one it did not dare to write."""
    log = AgreementLog("a", "b")
    large, little = FakeRunner(rule=confident([0.9])), FakeRunner(rule=confident([0.9, 0.9, 0.3, 0.9]))
    loop(large, drafter(little, HandOver(0.6, 3), log), 5.0).write(PROMPT, 4)

    odds = [round(row.features[0], 2) for row in log.rows]
    assert odds == [round(float(np.log(p / (1 - p))), 2) for p in (0.9, 0.9, 0.3, 0.9)]
    assert all(row.agreed for row in log.rows)


def test_a_withheld_token_behind_a_refused_one_says_nothing() -> None:
    """The large model never saw that text."""
    log = AgreementLog("a", "b")
    unsure = drafter(FakeRunner(rule=confident([0.9, 0.3])), HandOver(0.6, 3), log)
    unsure.draft([ask(PROMPT)])
    unsure.draft([ask((*PROMPT, 2, 1))])

    assert len(log.rows) == 0


# ------------------------------------------------------------------ both limits, and between them


@settings(max_examples=20)
@given(st.integers(0, 20), st.sampled_from(((2.0, 5.0), (0.0, 0.0), (0.6, 0.0))))
def test_at_its_limits_the_text_is_the_large_models(seed: int, rule: tuple[float, float]) -> None:
    """Always handing over, or taking back all but certainties: exactly what the large model writes alone."""
    large, little = pair(seed)
    fallback, rollback = rule
    text = loop(large, drafter(little, HandOver(fallback, 8)), rollback).write((*PROMPT, seed), 60)

    assert text == large.continued((*PROMPT, seed), 60)


def test_without_limits_the_text_is_the_little_models() -> None:
    """Never unsure and never taken back, the little model writes but for one token after each window."""
    large, little = pair()
    text = loop(large, drafter(little, SURE), 1e9).write(PROMPT, 45)

    assert text[:8] == little.continued(PROMPT, 8)
    assert text[8] == large.expected([*PROMPT, *text[:8]])


def test_requests_that_forbid_tokens_are_exact() -> None:
    """A grammar, a bias or a penalty speaks through the sampler only."""
    free = chat("x")
    forbidding = [
        replace(free, grammar="json"),
        replace(free, json_schema="{}"),
        *(
            replace(free, sampling=one)
            for one in (
                Sampling(logit_bias=((1, -100.0),)),
                Sampling(frequency_penalty=1),
                Sampling(presence_penalty=1),
                Sampling(repeat_penalty=1.1),
            )
        ),
    ]

    assert may_relax(free)
    assert not any(map(may_relax, forbidding))


# ------------------------------------------------------------------ the bundled pair


@dataclass
class Duo:
    """The bundled pair, loaded."""

    large: "LlamaRunner"
    little: "LlamaRunner"
    language: Language
    known: dict[tuple[int, ...], list[int]] = field(default_factory=dict)

    def write(self, prompt: tuple[int, ...], rule: HandOver, rollback: float, n_tokens: int = 72) -> list[int]:
        """Both models writing one text, beyond ends of answers too."""
        for seat in range(self.little.n_seats):
            self.little.cut(seat, 0)
        drafts = LittleDrafter(self.little, _Endless(self.language), rule)  # type: ignore[arg-type]
        return loop(self.large, drafts, rollback).write(prompt, n_tokens)

    def alone(self, prompt: tuple[int, ...], n_tokens: int = 72) -> list[int]:
        """What the large model writes."""
        if prompt not in self.known:
            self.known[prompt] = Loop(self.large, ArgmaxSampler(self.large), _Nobody()).write(prompt, n_tokens)
        return self.known[prompt]

    def regret(self, prompt: tuple[int, ...], text: Sequence[int]) -> float:
        """By how much the logit of the likeliest token exceeds that of the written one, where it does most."""
        self.large.cut(0, 0)
        self.large.decode([Run((*prompt, *text[:-1]), 0, (0,), len(text))])
        logits = [self.large.logits(len(prompt) - 1 + i) for i in range(len(text))]
        return max(float(one.max() - one[token]) for one, token in zip(logits, text, strict=True))


class _Nobody(LittleDrafter):
    """Never guesses."""

    def __init__(self) -> None:
        pass

    def draft(self, asks: Sequence[DraftAsk]) -> list[list[Draft]]:
        return [[] for _ in asks]

    def hear(self, verdict: object) -> None:
        pass

    def forget(self, key: int) -> None:
        pass


class _Endless:
    """A language whose answers do not end."""

    def __init__(self, language: Language) -> None:
        self.piece = language.piece
        self.is_end = no_end


@pytest.fixture(scope="module")
def duo() -> Iterator[Duo]:
    """Without llama-cpp-python, which is an extra, there is no pair."""
    pytest.importorskip("llama_cpp")
    from echo_proxy.llama.language import LlamaLanguage
    from echo_proxy.llama.library import load_weights
    from echo_proxy.llama.runner import ContextOptions, LlamaRunner
    from tests.llama.pair import LARGE, SMALL

    weights = [load_weights(LARGE), load_weights(SMALL)]
    large, little = (LlamaRunner(one, ContextOptions(n_seats=4, n_cells=1024, n_batch=128)) for one in weights)
    yield Duo(large, little, LlamaLanguage(weights[0], large))
    for runner in (large, little):
        runner.close()
    for one in weights:
        one.close()


def prompts_of(duo: Duo) -> list[tuple[int, ...]]:
    """Twelve questions."""
    topics = ("the capital of Bralia", "the number after 41", "rivers", "a lamp", "Trestan", "stones")
    texts = [f"{verb} {topic}." for verb in ("Tell me about", "What is") for topic in topics]
    return [duo.language.prompt([{"role": "user", "content": text}]).tokens for text in texts]


def test_the_pair_always_handing_over(duo: Duo) -> None:
    """Twelve answers of 72 tokens: to the token what the large model writes alone."""
    for prompt in prompts_of(duo):
        assert duo.write(prompt, HandOver(2.0, 10), 5.0) == duo.alone(prompt)


@pytest.mark.parametrize("fallback", [0.6, 0.0])
def test_the_pair_taking_back_all_but_certainties(duo: Duo, fallback: float) -> None:
    """Twelve answers of 72 tokens: each token is the large model's own choice."""
    for prompt in prompts_of(duo):
        assert duo.regret(prompt, duo.write(prompt, HandOver(fallback, 10), 0.0)) < TIE


def test_the_pair_between_its_limits(duo: Duo) -> None:
    """The default rule writes tokens that are not the large model's choice, and none that it finds too unlikely."""
    regrets = [duo.regret(prompt, duo.write(prompt, HandOver(0.6, 10), 5.0)) for prompt in prompts_of(duo)]

    assert max(regrets) > 1
    assert max(regrets) < 5 + TIE


def test_lookup_and_model_drafts_change_no_text(duo: Duo) -> None:
    """Trees of guesses in llama.cpp's own cells: each token is what the large model would write."""
    from echo_proxy.engine.draft_model import ModelDrafter
    from echo_proxy.engine.lookup import LookupDrafter

    for prompt in prompts_of(duo)[:6]:
        alone = duo.alone(prompt)
        hints = (tuple(alone[:40]), tuple(reversed(alone)), tuple(alone[20:]))
        trees = Loop(duo.large, ArgmaxSampler(duo.large), LookupDrafter(no_end), most_drafts=4)
        little = Loop(duo.large, ArgmaxSampler(duo.large), ModelDrafter(duo.little, no_end))

        assert duo.regret(prompt, trees.write(prompt, 72, hints=hints)) < TIE
        assert trees.n_steps < 40
        assert duo.regret(prompt, little.write(prompt, 72)) < TIE
