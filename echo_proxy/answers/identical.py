"""Has this very request been asked before, word for word, so that a model would only say the same again?

Then the stored answer needs no proof: it is to time what sharing one call is to requests that come at once. What must
hold for that:

- Request and stored one agree in words, system prompt, earlier turns, model group and parameters, and the parameters
  leave nothing to chance (`answers.identical: deterministic`).
- The answer is the model's own word on them. What was read from a file that is not trusted is not, nor what upkeep has
  put in its place. A promoted one is a judge's word instead.
- Nothing speaks against it: no observation of the same words was wrong, and no stored answer to them differs. A
  provider that gives other answers at temperature 0, or has changed its model, is found out so: a model is still asked
  with `LEAST_EXPLORING`.
"""

import json
from collections.abc import Sequence

from echo_proxy.answers.eligible import may_answer
from echo_proxy.answers.same import normalized
from echo_proxy.policy_keeping import AnswersPolicy
from echo_proxy.types import Candidate, Example, Request

_OWN_WORD = frozenset({"traffic", "shared", "promoted"})
"""Origins of answers that need no proof. A trusted import keeps the origin that its file tells."""
_SAME_PLACE = 0.001
"""Cosine distance up to which an observation is of the same words: what float32 and the indexes leave of 0."""


def is_deterministic(parameters: str) -> bool:
    """Whether asking twice should give the same: temperature 0, or a seed.

    Args:
        parameters: canonical JSON, as in Call.
    """
    found = json.loads(parameters) if parameters else {}
    return found.get("temperature") == 0 or "seed" in found


def is_repeatable(request: Request, rules: AnswersPolicy) -> bool:
    """Whether the same words may be given the same answer without proof, should they come again."""
    wanted = rules.identical == "all" or (rules.identical == "deterministic" and request.is_deterministic)
    return wanted and bool(request.answer_key)


def asked_before(request: Request, candidates: Sequence[Candidate], rules: AnswersPolicy) -> Candidate | None:
    """The candidate whose answer a model would only say again; None when there is none, or something speaks against
    it.

    Args:
        request: one without an obstacle (eligible.py).
        candidates: found by retrieval, nearest first: what the request's key may not be shown is not among them.
        rules: `identical` says whether parameters matter.
    """
    if not is_repeatable(request, rules):
        return None
    words = request.text.strip()
    same = [one for one in candidates if one.example.request.strip() == words and may_answer(request, one, rules)]
    if any(_is_doubted(one.example) for one in same) or len({normalized(one.example.response) for one in same}) > 1:
        return None
    return next((one for one in same if _is_own_word(one.example)), None)


def _is_own_word(example: Example) -> bool:
    return example.origin in _OWN_WORD and not any(one.is_replaced for one in example.history)


def _is_doubted(example: Example) -> bool:
    return any(not one.is_correct and one.distance <= _SAME_PLACE for one in example.observations)
