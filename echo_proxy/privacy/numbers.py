"""Which card numbers, bank accounts and national identity numbers stand in a text?"""

import re
from collections.abc import Callable, Iterator

from echo_proxy.privacy import checksums
from echo_proxy.privacy.finding import Certainty, Finding

_CARD = re.compile(
    r"(?<![\w.,-])(?<!\d )(?:\d{13,19}|\d{4}(?P<s>[ -])\d{4}(?P=s)\d{4}(?P=s)\d{4}(?:(?P=s)\d{3})?"
    r"|\d{4}(?P<t>[ -])\d{6}(?P=t)\d{4,5})(?!\w|[.,-]\d| \d{2})"
)
_ISSUER = re.compile(
    r"4\d{15}(?:\d{3})?\Z|5[1-5]\d{14}\Z|2(?:22[1-9]|2[3-9]\d|[3-6]\d\d|7[01]\d|720)\d{12}\Z|3[47]\d{13}\Z"
    r"|6(?:011|4[4-9]\d|5\d\d)\d{12,15}\Z|35\d{14,17}\Z|3(?:0[0-5]|[68]\d)\d{11}\Z|62\d{14,17}\Z"
    r"|(?:5018|5020|5038|6304|6759|676[1-3])\d{8,15}\Z"
)
"""Visa, Mastercard, American Express, Discover, JCB, Diners Club, UnionPay, Maestro, with the lengths they have."""
_IBAN = re.compile(r"(?<![A-Za-z0-9])(?P<country>[A-Za-z]{2})\d\d(?=[ -]?[A-Za-z0-9])")
_MOST_OF_IBAN = 33 + 9
_SHAPES: tuple[tuple[re.Pattern[str], Callable[[str], bool], Certainty], ...] = (
    (re.compile(r"(?<![\w-])(?!000|666)\d{3}-(?!00)\d\d-(?!0000)\d{4}(?![\w-])"), lambda _: True, 2),  # USA: SSN, ITIN
    (
        re.compile(r"(?<!\w)(?!BG|GB|KN|NK|NT|TN|ZZ)[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z](?: ?\d\d){3} ?[A-D](?!\w)"),
        lambda _: True,
        2,
    ),  # United Kingdom: National Insurance
    (re.compile(r"(?<![\w-])(?:\d{8}|[XYZ]-?\d{7})-?[A-Z](?!\w)"), checksums.is_dni, 3),  # Spain
    (
        re.compile(r"(?<!\w)[A-Z]{6}\d\d[ABCDEHLMPRST]\d\d[A-Z]\d{3}[A-Z](?!\w)"),
        checksums.is_codice_fiscale,
        3,
    ),  # Italy
    (re.compile(r"(?<!\w)[12](?: ?\d\d){3}(?: ?\d{3}){2} ?\d\d(?!\w)"), checksums.is_nir, 3),  # France
    (re.compile(r"(?<![\w.])\d{3}\.\d{3}\.\d{3}-\d\d(?!\w)"), checksums.is_cpf, 3),  # Brazil
    (re.compile(r"(?<!\w)\d{6}(?:19|20)\d\d[01]\d[0-3]\d\d{3}[\dXx](?!\w)"), checksums.is_resident_id, 3),  # China
    (re.compile(r"(?<![\w-])(?<!\d )[2-9]\d{3}([ -])\d{4}\1\d{4}(?![\w-]| \d)"), checksums.is_verhoeff, 2),  # India
)
"""By country: their form, and what must hold of them without separators."""
_BARE_SSN = re.compile(r"(?<!\w)(?!000|666|9)\d{9}(?!\w)")
_SSN_WORDS = re.compile(r"ssn|social.security", re.IGNORECASE)
_REACH = 40
"""Characters before a number in which a word tells what it is. # guess, not yet measured"""


def find_numbers(text: str) -> Iterator[Finding]:
    """Those of all three kinds."""
    yield from _cards(text)
    yield from _ibans(text)
    for pattern, holds, certainty in _SHAPES:
        for match in pattern.finditer(text):
            if holds(re.sub(r"[ .-]", "", match.group())):
                yield Finding("national_id", match.start(), match.end(), certainty)
    for match in _BARE_SSN.finditer(text):
        if _SSN_WORDS.search(text, max(0, match.start() - _REACH), match.start()):
            yield Finding("national_id", match.start(), match.end())


def _cards(text: str) -> Iterator[Finding]:
    for match in _CARD.finditer(text):
        digits = re.sub(r"[ -]", "", match.group())
        if _ISSUER.match(digits) and checksums.is_luhn(digits):
            yield Finding("card", match.start(), match.end(), 3)


def _ibans(text: str) -> Iterator[Finding]:
    """The country tells the length, so that a word after an account is not taken for its end."""
    for match in _IBAN.finditer(text):
        length = checksums.iban_length(match["country"].upper())
        end = _after(text, match.start(), length) if length else None
        if end and checksums.is_iban(re.sub(r"[ -]", "", text[match.start() : end]).upper()):
            yield Finding("iban", match.start(), end, 3)


def _after(text: str, start: int, length: int) -> int | None:
    """Where so many letters and digits end, with at most one space or hyphen between them; None without them."""
    seen, gap = 0, False
    for place in range(start, min(len(text), start + _MOST_OF_IBAN + 1)):
        one = text[place]
        if seen == length:
            return place if not one.isalnum() else None
        if one in " -" and not gap:
            gap = True
        elif one.isascii() and one.isalnum():
            seen, gap = seen + 1, False
        else:
            return None
    return len(text) if seen == length else None
