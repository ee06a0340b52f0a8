"""How does text become a model's tokens, and how do tokens become text and choices?"""

import random
from collections.abc import Mapping, Sequence

from echo_proxy.engine.chat import ChatRequest
from echo_proxy.engine.runner import PromptTokens
from echo_proxy.llama.grammar import Grammar, grammar_rules
from echo_proxy.llama.library import Weights
from echo_proxy.llama.prompts import ChatFormat
from echo_proxy.llama.runner import LlamaRunner
from echo_proxy.llama.sampler import LlamaSampler, check_bias
from echo_proxy.llama.vocabulary import Vocabulary


class LlamaLanguage:
    """See Language."""

    def __init__(
        self,
        weights: Weights,
        runner: LlamaRunner,
        *,
        vocabulary: Vocabulary | None = None,
        chat_format: ChatFormat | None = None,
        seed: int | None = None,
    ) -> None:
        """Of a model and its runner.

        Args:
            weights: the model's.
            runner: whose logits the samplers draw from.
            vocabulary: the model's, when it has been read already.
            chat_format: how prompts are made; default: the template in the GGUF.
            seed: of requests that bring none; None = another one each time.

        Raises:
            LocalModelError: there is no template in the GGUF, or it makes no prompts.
        """
        self._runner = runner
        self._vocabulary = vocabulary or Vocabulary(weights)
        self._format = chat_format or ChatFormat(self._vocabulary, weights.metadata, None, weights.path)
        self._seed = seed
        self.n_vocab = self._vocabulary.n_vocab
        self.fingerprint = self._vocabulary.fingerprint
        self.most_bytes_per_token = max(len(self._vocabulary.piece(token)) for token in range(self.n_vocab))

    def prompt(self, messages: Sequence[Mapping[str, str]]) -> PromptTokens:
        """See Language.prompt."""
        return self._format.prompt(messages)

    def tokenize(self, text: str) -> tuple[int, ...]:
        """See Language.tokenize."""
        return tuple(self._vocabulary.tokenize(text, adds_special=False, knows_control=False))

    def piece(self, token: int) -> bytes:
        """See Language.piece."""
        return self._vocabulary.piece(token)

    def is_end(self, token: int) -> bool:
        """See Language.is_end."""
        return token in self._vocabulary.ends

    def check(self, request: ChatRequest) -> None:
        """Find out whether `sampler` would refuse the request; may be called from any thread.

        The costly part, what a schema allows, is kept for it. Raises ChatRejected.
        """
        check_bias(request.sampling, self.n_vocab)
        grammar_rules(request)

    def sampler(self, request: ChatRequest) -> LlamaSampler:
        """See Language.sampler."""
        rules = grammar_rules(request)
        grammar = None if rules is None else Grammar(self._vocabulary, rules)
        try:
            return LlamaSampler(self._runner, request.sampling, self._seed_of(request), grammar, self._vocabulary.end)
        except BaseException:
            if grammar is not None:
                grammar.close()
            raise

    def _seed_of(self, request: ChatRequest) -> int:
        for seed in (request.sampling.seed, self._seed):
            if seed is not None:
                return seed
        return random.getrandbits(32)
