"""What of a text may be kept, and what stands in place of the rest?"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count

from echo_proxy.policy_keeping import SECRET_KINDS, PrivacyAction, PrivacyPolicy
from echo_proxy.privacy import presidio
from echo_proxy.privacy.finding import Finding
from echo_proxy.privacy.folding import Folded, Folding, without_invisible
from echo_proxy.privacy.patterns import find

_PLACEHOLDER = re.compile(r"\[(?P<kind>[a-z][a-z_]{1,30}) (?P<number>[1-9]\d{0,5})\]")
_ROUNDS = 8
"""A replacement may uncover another finding (a number that stood right behind another). Honest texts need two rounds;
what needs more than this was built to, and is not kept. # guess, not yet measured"""
_HYPHENS = dict.fromkeys("\u2010\u2011\u2012\u2013\u2212\ufe63\uff0d", "-")
"""Not the em dash, which parts words."""
_as_seen = Folding(_HYPHENS, keeps_superscripts=True)
_STRICTNESS: Mapping[PrivacyAction, int] = {"keep": 0, "redact": 1, "reject": 2}


@dataclass(frozen=True, slots=True)
class Cleaned:
    """Texts that may be kept, with what was found in them."""

    texts: tuple[str, ...]
    """In the order in which they were given; `[email 1]` stands for the first address, the same in all of them."""
    n_found: Mapping[str, int] = field(default_factory=dict)
    """By kind, e.g. `email`; of all texts together, also where the policy keeps them."""
    rejected: str | None = None
    """Kind because of which nothing may be kept; None when the texts may be."""


def clean(texts: Sequence[str], rules: PrivacyPolicy) -> Cleaned:
    """The texts without what the policy does not want to keep. Takes milliseconds, with Presidio tens of them.

    Cleaning what was cleaned changes nothing. Texts in which nothing is found come back as they are. Rejected texts
    come back as they were given, and must not be stored.

    Raises:
        PolicyError: the policy wants Presidio, which, or whose model, is not installed.
    """
    given, n_found = tuple(texts), Counter[str]()
    names = _Names(given)
    made = given
    for turn in range(_ROUNDS):
        found = [findings(text, rules) for text in made]
        if turn == 0:
            n_found.update(one.kind for of_text in found for one in of_text)
        acts = {one.kind: action_of(one.kind, rules) for of_text in found for one in of_text}
        rejected = next((kind for kind, action in acts.items() if action == "reject"), None)
        if rejected:
            return Cleaned(given, dict(n_found), rejected)
        if "redact" not in acts.values():
            return Cleaned(made, dict(n_found))
        unwanted = [[one for one in of_text if acts[one.kind] == "redact"] for of_text in found]
        made = tuple(_redacted(text, of_text, names) for text, of_text in zip(made, unwanted, strict=True))
    return Cleaned(given, dict(n_found), next(one.kind for of_text in unwanted for one in of_text))


def without_personal_data(texts: Sequence[str], rules: PrivacyPolicy) -> Cleaned:
    """The same for a copy that others will read: whatever the policy says of the original, personal data is redacted
    and texts with a secret are rejected. Placeholders that stand there already stay."""
    return clean(texts, PrivacyPolicy(secrets="reject", personal="redact", presidio=rules.presidio))


def findings(text: str, rules: PrivacyPolicy) -> list[Finding]:
    """What stands in a text, in order and without overlap; placeholders are none.

    It is looked for in the text as it is, as it will be shown (neutralize.py leaves out what no text needs), and as a
    lenient reader sees it: a character that nobody sees parts a key or an address from itself, or from its neighbour.

    Raises:
        PolicyError: see `clean`.
    """
    seen, shown = _as_seen(text), without_invisible(text)
    found = [] if text in (seen.text, shown.text) else find(text)
    for view in (seen, shown) if shown.text != seen.text else (seen,):
        found += [_placed(one, view) for one in find(view.text)]
    if rules.presidio is not None:
        found += [_placed(one, seen) for one in presidio.find(seen.text, rules.presidio)]
    ours = [match.span() for match in _PLACEHOLDER.finditer(text)] if found else []
    return [_strictest(group, rules) for group in _overlapping(found) if not _are_placeholders(group, ours)]


def _placed(found: Finding, view: Folded) -> Finding:
    start, end = view.span(found.start, found.end)
    return Finding(found.kind, start, end, found.certainty)


def action_of(kind: str, rules: PrivacyPolicy) -> PrivacyAction:
    """What the policy wants done about a kind of finding."""
    return rules.kinds.get(kind, rules.secrets if kind in SECRET_KINDS else rules.personal)


def _overlapping(found: Sequence[Finding]) -> Iterator[list[Finding]]:
    """Findings that share characters, directly or through others, together."""
    group: list[Finding] = []
    for one in sorted(found, key=lambda one: (one.start, one.end)):
        if group and one.start >= max(other.end for other in group):
            yield group
            group = []
        group.append(one)
    if group:
        yield group


def _strictest(group: Sequence[Finding], rules: PrivacyPolicy) -> Finding:
    """One finding over all that the group covers, so that no rest of the shorter ones is left: named after the most
    certain one, and among equally certain ones after what is treated most strictly, then after the longest.

    Secrets go before personal data. What is kept protects what lies within it, and nothing beside it."""
    secrets = [one for one in group if one.kind in SECRET_KINDS]
    best = max(
        secrets or group, key=lambda one: (one.certainty, _strictness(one, rules), one.end - one.start, one.kind)
    )
    if _strictness(best, rules) > 0:
        return Finding(best.kind, min(one.start for one in group), max(one.end for one in group), best.certainty)
    beside = [one for one in group if one.start < best.start or one.end > best.end]
    return _strictest(beside, rules) if any(_strictness(one, rules) > 0 for one in beside) else best


def _strictness(one: Finding, rules: PrivacyPolicy) -> int:
    return _STRICTNESS[action_of(one.kind, rules)]


def _are_placeholders(group: Sequence[Finding], ours: Sequence[tuple[int, int]]) -> bool:
    """Whether a group covers nothing but one placeholder or a part of it."""
    start, end = min(one.start for one in group), max(one.end for one in group)
    return any(ours_start <= start and end <= ours_end for ours_start, ours_end in ours)


def _redacted(text: str, unwanted: Sequence[Finding], names: "_Names") -> str:
    if not unwanted:
        return text
    parts, last = [], 0
    for one in unwanted:
        parts += [text[last : one.start], names.of(one.kind, text[one.start : one.end])]
        last = one.end
    return "".join([*parts, text[last:]])


class _Names:
    """Which placeholder stands for which value, the same in all texts of a call."""

    def __init__(self, texts: Sequence[str]) -> None:
        self._known: dict[tuple[str, str], str] = {}
        self._taken = {match.group() for text in texts for match in _PLACEHOLDER.finditer(text)}
        self._numbers: dict[str, Iterator[int]] = defaultdict(lambda: count(1))

    def of(self, kind: str, value: str) -> str:
        """`[email 1]`; never one that stood in a text before: it means another value."""
        key = kind, _same(kind, value)
        if key not in self._known:
            names = (f"[{kind} {number}]" for number in self._numbers[kind])
            self._known[key] = next(name for name in names if name not in self._taken)
        return self._known[key]


def _same(kind: str, value: str) -> str:
    """What two spellings of one value have in common."""
    value = _as_seen(value).text
    if kind in SECRET_KINDS:
        return value
    return re.sub(r"[\s().\-/]", "", value).casefold() if kind != "email" else value.casefold()
