"""How likely was a written token, and what were its rivals?"""

import numpy as np

from echo_proxy.engine.runner import Language, Logits
from echo_proxy.engine.work import TokenChance


def log_softmax(logits: Logits) -> Logits:
    """Natural logarithms of the probabilities, shape (n_vocab,)."""
    shifted = logits - logits.max()
    result: Logits = shifted - np.log(np.exp(shifted, dtype=np.float64).sum()).astype(np.float32)
    return result


def chance_of(token: int, logits: Logits, n_rivals: int, language: Language) -> TokenChance:
    """The token with its rivals, from the logits at the row where it was drawn."""
    logprobs = log_softmax(logits)
    n = min(n_rivals, logprobs.size)
    likeliest = np.argpartition(-logprobs, n - 1)[:n] if n else np.empty(0, dtype=np.intp)
    rivals = tuple(_plain(int(one), logprobs, language) for one in sorted(likeliest, key=lambda one: -logprobs[one]))
    own = _plain(token, logprobs, language)
    return TokenChance(own.text, own.piece, own.logprob, rivals)


def _plain(token: int, logprobs: Logits, language: Language) -> TokenChance:
    piece = language.piece(token)
    return TokenChance(piece.decode("utf-8", "replace"), piece, float(logprobs[token]))
