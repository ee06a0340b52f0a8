"""Under which words else may a stored answer be found, once a judge has found it right for them?

Krites (arXiv 2602.13165): a near miss that proves right beside the path is kept as an example of its own, with the
asker's words and the stored answer. It is the asker's, but holds what another key was answered: its id tells of which
example, and whose, so that it goes when that is purged.
"""

import hashlib
from dataclasses import dataclass, replace

from echo_proxy.online.admit import is_kept_from, user_behind
from echo_proxy.online.embed import identity_of
from echo_proxy.policy import Policy
from echo_proxy.types import Example, Plan, Request, StoredAnswer

_MARK = "-promoted-"


@dataclass(frozen=True, slots=True)
class Promotion:
    """An example that is to be kept when the stored answer is found right."""

    example: Example
    original_id: str
    version: int
    """Of the original, whose answer is judged."""
    asked: str
    """Text that the example's vector stands for."""


def promotion(plan: Plan, answer: StoredAnswer, policy: Policy) -> Promotion | None:
    """What the stored answer becomes under the request's words; None where it must not.

    Never into another scope than the answer's own: readers of the one need not be readers of the other. Nor from
    quarantine, nor what the asker or the operator wants kept out, nor the same words again.
    """
    request, original = plan.request, answer.example
    n_tokens = max(1, len(request.text) // 4) + max(original.n_tokens - len(original.request) // 4, 0)
    is_new = request.text.strip() != original.request.strip() and bool(request.answer_key)
    is_open = not original.reader and (original.scope, original.partition) == (request.scope, request.partition)
    rules = policy.admission
    is_too_much = request.n_user_turns > rules.max_turns or n_tokens > rules.max_tokens
    if plan.vector is None or not is_new or not is_open or is_too_much or is_kept_from(request, rules):
        return None
    example = replace(
        original,
        id=promoted_id(original, request),
        request=request.text,
        vector=plan.vector,
        decision_id=request.decision_id,
        writer=request.caller.key,
        person=user_behind(request.caller),
        n_tokens=n_tokens,
        system=request.system,
        wants_json=request.wants_json,
        n_turns=request.n_user_turns,
        answer_key=request.answer_key,
        origin="promoted",
        version=1,
        uses=0.0,
        gain=0.0,
        offloads=0.0,
        regret=0.0,
        counted_at=request.received_at,
        history=(),
        observations=(),
        confirmed_by=(),
    )  # as old as the answer that it holds, and gone with it
    return Promotion(example, original.id, original.version, identity_of(request))


def promoted_id(original: Example, request: Request) -> str:
    """Always the same for an original, a key and its words. Of a promoted original, that of the first one."""
    words = "\x00".join((request.answer_key, request.caller.key, request.text.strip()))
    root, owner = original_of(original.id) or original.id, owner_of(original.id) or owner_mark(original.writer)
    return f"{root}{_MARK}{owner}-{_digest(words, 16)}"


def original_of(example_id: str) -> str:
    """Id of the example whose answer a promoted one holds; empty when it is none."""
    root, mark, _ = example_id.rpartition(_MARK)
    return root if mark else ""


def owner_of(example_id: str) -> str:
    """`owner_mark` of the key that was given the answer first; empty when the example is not a promoted one."""
    _, mark, rest = example_id.rpartition(_MARK)
    return rest.partition("-")[0] if mark else ""


def owner_mark(writer: str) -> str:
    """What stands for a writer in ids, 16 hex digits."""
    return _digest(writer, 16)


def _digest(text: str, n: int) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:n]
