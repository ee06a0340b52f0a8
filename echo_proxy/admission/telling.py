"""What of a decision's texts may stand in its record, and does its lesson keep the vector?

Runs beside the path, before a settlement is written. A record says in `redacted` which of its texts were changed.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

from echo_proxy.admission.cleaning import run_clean
from echo_proxy.errors import FAULTS, EchoProxyError
from echo_proxy.online.log import MAX_TEXT
from echo_proxy.policy_keeping import PrivacyPolicy
from echo_proxy.privacy.clean import clean
from echo_proxy.types import Json, Lesson, Settlement

_FIELDS = ("request", "answer", "comment")
_REDACTED = "redacted"


@dataclass(frozen=True, slots=True)
class Cleared:
    """A settlement that may be written."""

    settlement: Settlement
    is_failed: bool = False
    """Its texts could not be cleaned, and were dropped."""


async def cleaned(settlement: Settlement, asked: str, rules: PrivacyPolicy) -> Cleared:
    """The settlement with texts that the rules let be kept, each cut to what a record holds.

    Nothing is told where the rules reject: neither the text that holds it, nor the others, which may speak of it. The
    vector goes with the first word that is taken out of what it stands for.

    Args:
        settlement: of a decision's first revision.
        asked: text that the lesson's vector stands for.
        rules: what is wanted.
    """
    texts = _texts(settlement.record.explanation)
    if not texts and not _has_vector(settlement):
        return Cleared(settlement)
    given = (asked, *texts.values())
    nothing: dict[str, str | None] = dict.fromkeys(texts)
    try:
        made = await run_clean(clean, given, rules)
    except (EchoProxyError, *FAULTS):
        return Cleared(_with(settlement, nothing, texts, keeps_vector=False), is_failed=True)
    if made.rejected is not None:
        return Cleared(_with(settlement, nothing, texts, keeps_vector=False))
    left = dict(zip(texts, made.texts[1:], strict=True))
    changed = [place for place in texts if left[place] != texts[place]]
    is_whole = made.texts[0] == asked and "request" not in changed
    return Cleared(_with(settlement, left, changed, keeps_vector=is_whole))


async def cleaned_comment(comment: str, rules: PrivacyPolicy) -> str:
    """What may be kept of what a reader says of an answer; empty where the rules reject, or cannot be applied."""
    try:
        made = await run_clean(clean, [comment], rules)
    except (EchoProxyError, *FAULTS):
        return ""
    return made.texts[0] if made.rejected is None else ""


def changed_texts(explanation: Mapping[str, Json]) -> Collection[Json]:
    """Names of those texts of a record that do not say what was said, e.g. `request`."""
    names = explanation.get(_REDACTED)
    return names if isinstance(names, list) else ()


def _has_vector(settlement: Settlement) -> bool:
    return isinstance(settlement.lesson, Lesson) and settlement.lesson.situation.vector is not None


def _texts(explanation: Mapping[str, Json]) -> dict[str, str]:
    """Those that an explanation holds, by name; candidates' requests by their number."""
    found = {name: explanation.get(name) for name in _FIELDS}
    candidates = explanation.get("candidates")
    for number, one in enumerate(candidates if isinstance(candidates, list) else ()):
        found[str(number)] = one.get("request") if isinstance(one, dict) else None
    return {name: text for name, text in found.items() if isinstance(text, str)}


def _with(
    settlement: Settlement, texts: Mapping[str, str | None], changed: Collection[str], *, keeps_vector: bool
) -> Settlement:
    """With these texts instead of its own."""
    record, lesson = settlement.record, settlement.lesson
    said: dict[str, Json] = dict(record.explanation)
    cut = {name: None if text is None else text[:MAX_TEXT] for name, text in texts.items()}
    said |= {name: text for name, text in cut.items() if name in _FIELDS}
    candidates = said.get("candidates")
    if isinstance(candidates, list):
        said["candidates"] = [
            {**one, "request": cut.get(str(number))} if isinstance(one, dict) else one
            for number, one in enumerate(candidates)
        ]
    if changed:
        said[_REDACTED] = [name if name in _FIELDS else f"candidates.{name}" for name in changed]
    if not keeps_vector and isinstance(lesson, Lesson):
        lesson = replace(lesson, situation=replace(lesson.situation, vector=None))
    return replace(settlement, record=replace(record, explanation=said), lesson=lesson)
