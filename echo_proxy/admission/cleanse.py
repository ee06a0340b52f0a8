"""What of an example may be stored, and which vector stands for what is left?"""

import json
import logging
from dataclasses import replace

from echo_proxy.admission.cleaning import Clean, run_clean
from echo_proxy.admission.refused import Refused
from echo_proxy.errors import FAULTS, EmbedderError, PolicyError
from echo_proxy.policy_keeping import PrivacyPolicy
from echo_proxy.protocols import Embedder
from echo_proxy.types import Embedding, Example

log = logging.getLogger("echo_proxy")


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
        Refused: something was found because of which nothing may be kept, the texts could not be cleaned, what is left
            cannot be embedded, or was JSON and is none any more.
    """
    texts = (asked, example.request, example.response, example.system)
    try:
        made = await run_clean(clean, texts, rules)
    except (PolicyError, *FAULTS) as error:  # what cannot be looked through is not kept
        reason = error if isinstance(error, PolicyError) else type(error).__name__  # others may quote the text
        log.warning("an example is not kept, its texts cannot be cleaned: %s", reason)
        raise Refused("privacy:failed") from error
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
