"""How do a small and a large model write one text together? The small one writes until it is unsure, the large one then
reads all of that at once, takes back what it finds too unlikely, and writes the next token.

That is drafting with two rules of its own. How long a draft is depends on the text: it ends where the small model's
likeliest token is less likely than `fallback`, or a gate expects the large one to choose otherwise. And a drafted token
stays while the large model finds it likely enough, see `verify_relaxed`. The text is neither model's own, unless
fallback = 2 (the large model writes all) or rollback = 0 (it takes back all that is not its own choice).

Source: Big Little Decoder, Kim et al. 2023, https://arxiv.org/abs/2302.07863
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from echo_proxy.engine.chat import ChatRequest
from echo_proxy.engine.draft_model import Glance, LittleModel
from echo_proxy.engine.gate import AgreementLog, Gate, features
from echo_proxy.engine.runner import Draft, DraftAsk, Language, Runner, Verdict

SOURCE = "little"
"""What its drafts are called."""


@dataclass(frozen=True, slots=True)
class HandOver:
    """When the small model gives the pen to the large one."""

    fallback: float
    """Before a token that is less likely, [0, 2]; 2 = always. Without effect where there is a gate."""
    window: int
    """After so many tokens, at least 1."""
    gate: Gate | None = None
    """Decides in place of `fallback`."""


def may_relax(request: ChatRequest) -> bool:
    """Whether a request's tokens may be accepted by the model's bare probabilities: nothing forbids or favours any."""
    sampling = request.sampling
    is_free = request.grammar == "text" and request.json_schema is None and not sampling.logit_bias
    return is_free and (sampling.frequency_penalty, sampling.presence_penalty, sampling.repeat_penalty) == (0, 0, 1)


@dataclass(frozen=True, slots=True)
class _Withheld:
    """A token that the small model would have written, had it been surer."""

    token: int
    features: tuple[float, ...]
    start: int
    """Where in the sequence its draft began."""
    draft: tuple[int, ...] = ()
    """What it wrote before."""


class LittleDrafter:
    """The small model of a pair; see above."""

    def __init__(
        self, runner: Runner, language: Language, hand_over: HandOver, agreement: AgreementLog | None = None
    ) -> None:
        """
        Args:
            runner: of the small model, which numbers tokens as the large one does; belongs to this object from now on.
            language: of either model.
            hand_over: when.
            agreement: notes what a gate can be fitted from; None = nothing is noted.

        Raises ValueError when the runner cannot take back tokens.
        """
        self._little = LittleModel(runner, language.is_end)
        self._language = language
        self._rule = hand_over
        self._agreement = agreement
        self._has_digit: dict[int, bool] = {}
        self._known: dict[int, list[tuple[float, ...]]] = {}
        """By key, the features of each token of the draft that is being written."""
        self._withheld: dict[int, _Withheld] = {}

    def draft(self, asks: Sequence[DraftAsk]) -> list[list[Draft]]:
        """See Drafter."""
        if self._agreement is not None:
            for ask in asks:
                self._learn(ask, self._agreement)
        elif self._rule.gate is None and self._rule.fallback > 1:
            return [[] for _ in asks]  # no probability is that high
        self._known = {ask.key: [] for ask in asks}
        shorter = [replace(ask, most_tokens=min(ask.most_tokens, self._rule.window)) for ask in asks]
        written = self._little.write(shorter, self._is_unsure)
        return [self._finished(ask, tokens) for ask, tokens in zip(asks, written, strict=True)]

    def _is_unsure(self, key: int, view: Glance, n_written: int) -> bool:
        if self._agreement is None and self._rule.gate is None:
            return view.chance < self._rule.fallback
        known = features(view, n_written, self._language.is_end(view.token), self._is_number(view.token))
        gate = self._rule.gate
        if gate.hands_over(known) if gate is not None else view.chance < self._rule.fallback:
            self._withheld[key] = _Withheld(view.token, known, 0)
            return True
        self._known[key].append(known)
        return False

    def _is_number(self, token: int) -> bool:
        has_digit = self._has_digit.get(token)
        if has_digit is None:
            has_digit = self._has_digit[token] = any(48 <= byte <= 57 for byte in self._language.piece(token))
        return has_digit

    def _finished(self, ask: DraftAsk, tokens: tuple[int, ...]) -> list[Draft]:
        withheld = self._withheld.get(ask.key)
        if withheld is not None:
            self._withheld[ask.key] = replace(withheld, start=len(ask.tokens), draft=tokens)
        return [Draft(tokens, SOURCE, tuple(self._known[ask.key][: len(tokens)]))] if tokens else []

    def _learn(self, ask: DraftAsk, agreement: AgreementLog) -> None:
        """Was what it withheld what the large model wrote there? Without those tokens a gate would only be fitted to
        what the last one let pass."""
        withheld = self._withheld.pop(ask.key, None)
        if withheld is None:
            return
        at = withheld.start + len(withheld.draft)
        if at < len(ask.tokens) and tuple(ask.tokens[withheld.start : at]) == withheld.draft:
            agreement.add(withheld.features, ask.tokens[at] == withheld.token)

    def hear(self, verdict: Verdict) -> None:
        """See Drafter."""
        if self._agreement is not None:
            self._agreement.hear(verdict)

    def forget(self, key: int) -> None:
        """See Drafter."""
        self._little.forget(key)
        self._withheld.pop(key, None)

    def close(self) -> None:
        """See Drafter."""
        if self._agreement is not None:
            self._agreement.flush()
        self._little.close()
