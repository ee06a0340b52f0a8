"""How is the next token of an answer drawn? llama.cpp's samplers in llama-server's order, argmax where that is all."""

import logging
from collections.abc import Iterator
from typing import Any

import llama_cpp

from echo_proxy.engine.chat import ChatRejected, Sampling
from echo_proxy.llama.candidates import Candidates
from echo_proxy.llama.grammar import Grammar
from echo_proxy.llama.runner import LlamaRunner

log = logging.getLogger("echo_proxy.local")

_COLDEST = 1e-4
"""Below it a temperature is 0: logits divided by less could leave the range of float32."""
_PENALISED_TOKENS = 64
"""Newest tokens that penalties look at, llama.cpp's own default."""
_LARGEST_BIAS = 1e6
"""Beyond it sums could leave the range of float32; OpenAI's ends at 100."""
_RANDOM_SEED = int(llama_cpp.LLAMA_DEFAULT_SEED)
"""llama.cpp takes this seed as none."""


class LlamaSampler:
    """See Sampler. Penalties and grammar look at the answer, not at the prompt."""

    def __init__(
        self, runner: LlamaRunner, sampling: Sampling, seed: int, grammar: Grammar | None, end: int | None
    ) -> None:
        """For one answer.

        Args:
            runner: whose logits it draws from.
            sampling: how.
            seed: 32 bits.
            grammar: what it may draw; closed with the sampler. None = anything.
            end: drawn when the grammar allows no token of this model: JSON needs a text that it has no tokens for.

        Raises:
            ChatRejected: a token or number of logit_bias cannot be.
        """
        self._runner = runner
        self._grammar = grammar
        self._end = end
        self._chain: Any = None
        self.is_greedy = grammar is None and not _changes_logits(sampling) and sampling.temperature < _COLDEST
        check_bias(sampling, runner.n_vocab)
        if not self.is_greedy:
            self._chain = _chain(sampling, seed, runner.n_vocab)
        self._candidates = None if grammar is None else Candidates(runner.n_vocab)

    def draw(self, row: int) -> int:
        """See Sampler.draw. Raises ValueError for a row that was not wanted."""
        if self.is_greedy:
            return self._runner.likeliest(row)
        if self._grammar is not None and self._candidates is not None:
            return self._draw_allowed(row, self._grammar, self._candidates)
        self._runner.logits(row)  # raises for a row that was not wanted; llama.cpp would end the process
        return int(llama_cpp.llama_sampler_sample(self._chain, self._runner.context, row))

    def accept(self, token: int) -> None:
        """See Sampler.accept. Raises ValueError for a token that the grammar does not allow."""
        if self._grammar is not None and not self._grammar.allows(token):
            raise ValueError(f"expected a token that the grammar allows, got {token}")
        self._remember(token)

    def close(self) -> None:
        """See Sampler.close. Again is no harm."""
        if self._chain is not None:
            llama_cpp.llama_sampler_free(self._chain)
            self._chain = None
        if self._grammar is not None:
            self._grammar.close()

    def _draw_allowed(self, row: int, grammar: Grammar, candidates: Candidates) -> int:
        """Draw as if there was no grammar, and once more among what it allows if that went wrong.

        To look at one token is much cheaper than at all, and the chances are those of drawing among the allowed.
        """
        candidates.fill(self._runner.logits(row))
        candidates.apply(self._chain)
        token = candidates.drawn
        refused: list[int] = []
        while not grammar.allows(token):
            refused.append(token)
            candidates.fill(self._runner.logits(row))
            grammar.restrict(candidates)
            candidates.forbid(refused)
            if not candidates.n_possible():
                return self._give_up()
            candidates.keep_possible()
            candidates.apply(self._chain)
            token = candidates.drawn
        self._remember(token)
        return token

    def _give_up(self) -> int:
        if self._end is None:
            raise RuntimeError("response_format: the grammar allows no token of this model, which has none to end with")
        log.warning("response_format: an answer ended early, because the model has no token that the grammar allows")
        return self._end

    def _remember(self, token: int) -> None:
        if self._grammar is not None:
            self._grammar.accept(token)
        if self._chain is not None:
            llama_cpp.llama_sampler_accept(self._chain, token)


def _changes_logits(sampling: Sampling) -> bool:
    is_penalised = sampling.frequency_penalty or sampling.presence_penalty or sampling.repeat_penalty != 1
    return bool(sampling.logit_bias or is_penalised)


def check_bias(sampling: Sampling, n_vocab: int) -> None:
    """Raises ChatRejected for a token or number of logit_bias that cannot be."""
    for token, bias in sampling.logit_bias:
        if not 0 <= token < n_vocab:
            raise ChatRejected(f"logit_bias: expected tokens in [0, {n_vocab}), got {token}", "logit_bias")
        if not abs(bias) <= _LARGEST_BIAS:  # also not a number
            message = f"logit_bias: expected numbers in [-{_LARGEST_BIAS:g}, {_LARGEST_BIAS:g}], got {bias}"
            raise ChatRejected(message, "logit_bias")


def _chain(sampling: Sampling, seed: int, n_vocab: int) -> Any:
    chain = llama_cpp.llama_sampler_chain_init(llama_cpp.llama_sampler_chain_default_params())
    for sampler in _links(sampling, seed, n_vocab):
        llama_cpp.llama_sampler_chain_add(chain, sampler)
    return chain


def _links(sampling: Sampling, seed: int, n_vocab: int) -> Iterator[Any]:
    """llama.cpp's samplers, in order."""
    if sampling.logit_bias:
        pairs = [llama_cpp.llama_logit_bias(token, bias) for token, bias in sampling.logit_bias]
        biases = (llama_cpp.llama_logit_bias * len(pairs))(*pairs)
        yield llama_cpp.llama_sampler_init_logit_bias(n_vocab, len(biases), biases)
    yield llama_cpp.llama_sampler_init_penalties(
        n_vocab,
        _PENALISED_TOKENS,
        sampling.repeat_penalty,
        sampling.frequency_penalty,
        sampling.presence_penalty,
    )
    if sampling.temperature < _COLDEST:
        yield llama_cpp.llama_sampler_init_greedy()
        return
    yield llama_cpp.llama_sampler_init_top_k(min(sampling.top_k, n_vocab))
    yield llama_cpp.llama_sampler_init_typical(sampling.typical_p, 1)
    yield llama_cpp.llama_sampler_init_top_p(sampling.top_p, 1)
    yield llama_cpp.llama_sampler_init_min_p(sampling.min_p, 1)
    yield llama_cpp.llama_sampler_init_temp(sampling.temperature)
    yield llama_cpp.llama_sampler_init_dist(seed if seed != _RANDOM_SEED else seed - 1)
