"""What of an example may be stored, and which vector stands for what is left?"""

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import replace

from echo_proxy.admission.refused import Refused
from echo_proxy.errors import EmbedderError
from echo_proxy.policy_keeping import PrivacyPolicy
from echo_proxy.privacy.clean import Cleaned
from echo_proxy.protocols import Embedder
from echo_proxy.types import Embedding, Example

Clean = Callable[[Sequence[str], PrivacyPolicy], Cleaned]
"""One of the functions of privacy/clean.py."""
_LONG = 20_000
"""Characters from which on even patterns alone would hold up the event loop. # guess, not yet measured"""


async def cleansed(
    example: Example, asked: str, rules: PrivacyPolicy, clean: Clean, embedder: Embedder
) -> tuple[Example, str]:
    """The example without what must not be kept, and likewise the text that its vector stands for.

    The vector of a text that was changed is computed anew: one of the words that were taken out could tell them. Nor
    is an answer that was changed ever served as it stands.

    Args:
        example: as it was made from the answer.
        asked: text that was embedded for it: its request, in a dialogue with the turn before.
        rules: what is wanted.
        clean: applies them.
        embedder: the same that made its vector.

    Raises:
        Refused: something was found because of which nothing may be kept, what is left cannot be embedded, or was JSON
            and is none any more.
    """
    texts = (asked, example.request, example.response, example.system)
    made = await _cleaned(texts, rules, clean)
    if made.rejected is not None:
        raise Refused(f"privacy:{made.rejected}")
    if made.texts == texts:
        return example, asked
    left, request, response, system = made.texts
    if example.wants_json and _is_json(example.response) and not _is_json(response):  # "[card 1]" where a number stood
        raise Refused("privacy:json")
    vector = example.vector if left == asked else await _embedded(left, embedder)
    clean_example = replace(example, request=request, response=response, system=system, vector=vector, answer_key="")
    return clean_example, left


async def _cleaned(texts: Sequence[str], rules: PrivacyPolicy, clean: Clean) -> Cleaned:
    """In a thread where it takes long: requests are being planned meanwhile."""
    if rules.presidio is None and sum(map(len, texts)) < _LONG:
        return clean(texts, rules)
    return await asyncio.to_thread(clean, texts, rules)


async def _embedded(text: str, embedder: Embedder) -> Embedding:
    try:
        vector: Embedding = (await embedder.embed([text]))[0]
    except (EmbedderError, ValueError) as error:  # ValueError: a text that no tokenizer takes
        raise Refused("no_vector") from error
    return vector


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True
