"""How much of the secrets and personal data in a text is found, how much else is taken for it, and how fast?

For each kind: precision, recall and F1 of findings (a finding is right where it has the label's kind and shares more
than half of the characters that either covers), each with a 95% interval: Wilson's for precision and recall, for F1 the
percentiles of 2,000 bootstraps over texts. `covered` asks less: whether all characters of a label are covered by
findings of whatever kind, which decides if a value is kept. For patterns alone, for Presidio alone (without a model of
a language, all that it looks for but dates and URLs), and for both as a policy with `presidio: {}` has them. The
labelled set: see `pii_set.py`.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from rich.console import Console
from rich.table import Table

from bench.keeping.pii_set import Labelled, read
from echo_proxy.policy_keeping import PERSONAL_KINDS, SECRET_KINDS, PresidioPolicy, PrivacyPolicy
from echo_proxy.privacy import presidio
from echo_proxy.privacy.clean import clean, findings
from echo_proxy.privacy.finding import Finding

KINDS = (*SECRET_KINDS, *PERSONAL_KINDS)
_SECOND_OPINION = PrivacyPolicy(secrets="redact", presidio=PresidioPolicy())
_RULES = {"patterns": PrivacyPolicy(secrets="redact"), "both": _SECOND_OPINION}
_ALONE = (
    *("CREDIT_CARD", "CRYPTO", "EMAIL_ADDRESS", "IBAN_CODE", "IP_ADDRESS", "MAC_ADDRESS", "MEDICAL_LICENSE"),
    *("PHONE_NUMBER", "UK_NHS", "US_BANK_NUMBER", "US_DRIVER_LICENSE", "US_ITIN", "US_PASSPORT", "US_SSN"),
)
_WAYS: dict[str, Callable[[str], list[Finding]]] = {
    "patterns": lambda text: findings(text, _RULES["patterns"]),
    "Presidio": lambda text: presidio.find(text, PresidioPolicy(entities=_ALONE)),
    "both": lambda text: findings(text, _SECOND_OPINION),
}


@dataclass(frozen=True, slots=True)
class Counts:
    """Of one kind in one text."""

    n_right: int
    """Labels that were found."""
    n_missed: int
    n_wrong: int
    """Findings that match no label."""


def counts(one: Labelled, found: Sequence[Finding], kind: str) -> Counts:
    """Findings of a kind that overlap each other count once."""
    labels = [span for span in one.spans if span.kind == kind]
    of_kind = _united([place for place in found if place.kind == kind])
    right = sum(any(_is_match(place, (span.start, span.end)) for place in of_kind) for span in labels)
    wrong = sum(not any(_is_match(place, (span.start, span.end)) for span in labels) for place in of_kind)
    return Counts(right, len(labels) - right, wrong)


def _united(found: Sequence[Finding]) -> list[tuple[int, int]]:
    made: list[tuple[int, int]] = []
    for one in sorted(found, key=lambda one: (one.start, one.end)):
        if made and one.start < made[-1][1]:
            made[-1] = (made[-1][0], max(made[-1][1], one.end))
        else:
            made.append((one.start, one.end))
    return made


def _is_match(left: tuple[int, int], right: tuple[int, int]) -> bool:
    shared = min(left[1], right[1]) - max(left[0], right[0])
    return shared > 0.5 * (max(left[1], right[1]) - min(left[0], right[0]))


def covered(one: Labelled, found: Sequence[Finding]) -> list[bool]:
    """Of each label, whether no character of it is left."""
    spans = _united(found)
    return [any(start <= span.start and span.end <= end for start, end in spans) for span in one.spans]


def _wilson(n_good: int, n: int) -> str:
    if n == 0:
        return "-"
    z, share = 1.96, n_good / n
    middle, width = share + z * z / (2 * n), z * np.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    low, high = (middle - width) / (1 + z * z / n), (middle + width) / (1 + z * z / n)
    return f"{share:.3f} [{max(0, low):.3f}, {min(1, high):.3f}]"


def _f1(table: np.ndarray, rng: np.random.Generator) -> str:  # table: (n_texts, 3)
    def value(right: float, missed: float, wrong: float) -> float:
        return 2 * right / max(2 * right + missed + wrong, 1)

    if table[:, :2].sum() == 0:
        return "-"
    drawn = rng.integers(len(table), size=(2_000, len(table)))
    sums = np.stack([np.bincount(row, minlength=len(table)) @ table for row in drawn])  # (2000, 3)
    low, high = np.percentile([value(*row) for row in sums], [2.5, 97.5])
    return f"{value(*table.sum(axis=0)):.3f} [{low:.3f}, {high:.3f}]"


def _accuracy(texts: Sequence[Labelled], way: str, rng: np.random.Generator) -> Table:
    table = Table(
        "kind", "labels", "found", "wrong", "precision", "recall", "F1", "covered", title=f"{way}, {len(texts)} texts"
    )
    found = [_WAYS[way](one.text) for one in texts]
    hidden = [dict(zip(one.spans, covered(one, places), strict=True)) for one, places in zip(texts, found, strict=True)]
    total = np.zeros((len(texts), 3), dtype=np.int64)
    for kind in KINDS:
        each = [counts(one, places, kind) for one, places in zip(texts, found, strict=True)]
        rows = np.array([(one.n_right, one.n_missed, one.n_wrong) for one in each])  # (n_texts, 3)
        total += rows
        _row(
            table, kind, rows, [is_hidden for of in hidden for span, is_hidden in of.items() if span.kind == kind], rng
        )
    _row(table, "all kinds", total, [is_hidden for of in hidden for is_hidden in of.values()], rng)
    return table


def _row(table: Table, name: str, rows: np.ndarray, hidden: Sequence[bool], rng: np.random.Generator) -> None:
    right, missed, wrong = (int(one) for one in rows.sum(axis=0))
    ratios = (_wilson(right, right + wrong), _wilson(right, right + missed), _f1(rows, rng))
    table.add_row(name, str(right + missed), str(right), str(wrong), *ratios, _wilson(sum(hidden), len(hidden)))


def _untouched(texts: Sequence[Labelled]) -> Table:
    """Of texts in which nothing is to be found, how many stay as they are."""
    table = Table("texts without a label", *_RULES, title="left as they are")
    for source in ("negative", "nl2bash", "gsm8k", "banking77"):
        plain = [one.text for one in texts if one.source == source and not one.spans]
        kept = [sum(clean([text], rules).texts == (text,) for text in plain) for rules in _RULES.values()]
        table.add_row(source, *(_wilson(n, len(plain)) + f" of {len(plain)}" for n in kept))
    return table


def _names(texts: Sequence[Labelled]) -> Table:
    table = Table("what", "labels", *_WAYS, title="names and addresses: share covered without a model of a language")
    for kind in ("person", "address"):
        shares = []
        for way in _WAYS.values():
            hidden = [
                is_hidden
                for one in texts
                for span, is_hidden in zip(one.spans, covered(one, way(one.text)), strict=True)
                if span.kind == kind
            ]
            shares.append(_wilson(sum(hidden), len(hidden)))
        table.add_row(kind, str(len(hidden)), *shares)
    return table


def _speed(texts: Sequence[str], repeats: int) -> Table:
    table = Table("clean() of one text", "median ms", "p99 ms", title=f"{len(texts)} texts, {repeats} times each")
    for way, rules in _RULES.items():
        clean([texts[0]], rules)
        taken = [_milliseconds(text, rules) for _ in range(repeats) for text in texts]
        table.add_row(way, *(f"{value:.2f}" for value in np.percentile(taken, [50, 99])))
    return table


def _milliseconds(text: str, rules: PrivacyPolicy) -> float:
    started = time.perf_counter()
    clean([text], rules)
    return (time.perf_counter() - started) * 1000


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").splitlines()[0], epilog="example: python -m bench.keeping.pii --half test"
    )
    parser.add_argument("--half", choices=("dev", "test"), default="test", help="patterns were tuned on dev")
    parser.add_argument("--seed", type=int, default=1, help="of the values and of the bootstrap")
    parser.add_argument("--repeats", type=int, default=5, help="how often each text is timed")
    told = parser.parse_args()
    texts = [one for one in read(told.seed) if one.half == told.half]
    plain = [one for one in texts if one.source != "names"]
    rng = np.random.default_rng(told.seed)
    console = Console(width=170)
    for way in _WAYS:
        console.print(_accuracy(plain, way, rng))
    console.print(_untouched(plain))
    console.print(_names([one for one in texts if one.source == "names"]))
    console.print(_speed([one.text for one in plain], told.repeats))


if __name__ == "__main__":
    main()
