"""Which answer is best, the stored one or one of the new ones? By a judge, or by what most new ones agree on."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from echo_proxy.online.agreement import agreement
from echo_proxy.online.both_ways import AskModel, Pair, both_ways
from echo_proxy.online.verdict import as_text
from echo_proxy.types import Example, Message
from echo_proxy.upkeep.fresh import Fresh

_TIE = 0.05
"""Verdicts so near to 0.5 are ties: 0.3 on the scale from -3 to 3, as in IC-Cache (arXiv 2501.12689, section 6)."""
_LEAST_AGREED = 0.5
"""New answers that agree less than this (where agreement tells nothing) have no majority."""
_SLACK = 0.9
"""The stored answer agrees with the new ones when it does so at least this much of how they agree with one another.
Two answers of three telling words of which one differs agree by 0.82. # guess, not yet measured"""


@dataclass(frozen=True, slots=True)
class Choice:
    """The best new answer against the stored one."""

    fresh: Fresh
    is_better: bool
    verdict: float
    """Of the new one against the stored one, [0, 1]; 0.5 = equal."""


async def by_judge(stored: Example, fresh: Sequence[Fresh], model_group: str, ask: AskModel) -> Choice | None:
    """The best of the new answers by a judge that compares each with the stored one, both ways round.

    None when it gave no verdict. Raises what `ask` raises.
    """
    dialogue = as_text(stored.system, [Message("user", stored.request)])
    best: Choice | None = None
    for one in {each.text.strip(): each for each in fresh}.values():
        verdicts = await both_ways(Pair(dialogue, one.text, stored.response), model_group, ask)
        if verdicts is None:
            continue
        verdict = sum(verdicts) / 2
        if best is None or verdict > best.verdict:
            best = Choice(one, verdict > 0.5 + _TIE, verdict)
    return best


def by_majority(stored: Example, fresh: Sequence[Fresh]) -> Choice | None:
    """The new answer that the others agree with most; better when the stored one does not agree with them.

    None when there are not two, or they contradict one another: then nobody knows better. Lexical agreement sees a
    wrong name or number in a short answer, and hardly one wrong word in a long one.
    """
    if len(fresh) < 2:
        return None
    texts = [one.text for one in fresh]
    mutual = np.array([[agreement(one, other) for other in texts] for one in texts])  # (n, n)
    np.fill_diagonal(mutual, 0.0)
    support = mutual.sum(axis=1) / (len(texts) - 1)  # (n,)
    agreed = float(support.mean())
    if agreed < _LEAST_AGREED:
        return None
    with_stored = float(np.mean([agreement(stored.response, text) for text in texts]))
    verdict = float(np.clip(0.5 + (agreed - with_stored) / 2, 0.0, 1.0))
    return Choice(fresh[int(support.argmax())], with_stored < _SLACK * agreed, verdict)
