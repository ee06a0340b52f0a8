"""Which phone numbers stand in a text?

Written with a country code, in the usual forms of North America and of countries whose national numbers begin with
0, or after a word such as `phone`. Bare digits without any of these are not taken for one: order numbers and amounts
would be.

Own patterns, because `phonenumbers` did no better: on the dev half of bench/keeping/pii_labelled.jsonl both find all 26
numbers, it with 14 regions, 13 wrong findings against 1, and 60 times the time; with one region it finds 16.
"""

import re
from collections.abc import Iterator

from echo_proxy.privacy.finding import Finding

_GAP = r"(?:[ .\-/\u00a0\u2011]|[ ]?\([0-9]{1,4}\)[ -]?|[ ]-[ ])"
_INTERNATIONAL = re.compile(
    rf"(?<![\w+./-])(?:\+|00(?=[1-9]))[ ]?[1-9]\d{{0,3}}(?:{_GAP}?\d{{1,12}}){{1,7}}(?!\w|\.\d)"
)
_NORTH_AMERICAN = re.compile(
    r"(?<![\w.+-])(?<!\d )(?:1[-. ])?(?:\([2-9]\d\d\)[ ]?|[2-9]\d\d(?P<s>[-. ]))[2-9]\d\d(?(s)(?P=s)|[-. ])\d{4}"
    r"(?:[ ]?(?:ext\.?|x)[ ]?\d{1,5})?(?!\w|[-.]\d| \d)"
)
_TRUNK = re.compile(
    r"(?<![\w.,+/:-])(?<!\d )(?:\(0\d{1,4}\)[ ]?|0\d{1,4}[ /-])\d{2,8}(?:[ -]\d{2,6}){0,4}"
    r"(?!\w|[-.,/:]\d| \d)"
)
_PAIRS = re.compile(r"(?<![\w.,+-])(?<!\d )0[1-9](?P<s>[ .-])\d\d(?:(?P=s)\d\d){3}(?!\w|[-.]\d| \d)")
"""France: five pairs."""
_CHINESE_MOBILE = re.compile(r"(?<![\w.,+-])(?<!\d )1[3-9]\d[ -]\d{4}[ -]\d{4}(?!\w|[-.]\d| \d)")
_AFTER_WORD = re.compile(
    r"\b(?:phone|tel(?:efon|éfono|ephone|efone)?|mobile?|cell(?:ulare|phone)?|handy|fax|whatsapp|sms|call|ring|dial|text|"
    r"móvil|portable|numéro|rufnummer)\b[^\d\n+]{0,24}(?P<number>\(?\d[\d ().\-/]{5,18}\d)(?!\w)",
    re.IGNORECASE,
)
_AMOUNT_OR_DATE = re.compile(
    r"(?:19|20)\d\d[-./]\d\d?[-./]\d\d?.*|\d\d?[-./]\d\d?[-./](?:19|20)\d\d.*|\d{1,3}(?:\.\d{1,3}){1,3}"
)
_NATIONAL_LENGTHS = {
    **{"1": (10, 10), "7": (10, 10), "27": (9, 9), "30": (10, 10), "31": (9, 9), "32": (8, 9), "33": (9, 9)},
    **{
        "34": (9, 9),
        "36": (8, 9),
        "39": (6, 11),
        "40": (9, 9),
        "41": (9, 9),
        "43": (7, 13),
        "44": (9, 10),
        "45": (8, 8),
    },
    **{"46": (7, 10), "47": (8, 8), "48": (9, 9), "49": (6, 12), "51": (8, 9), "52": (10, 10), "54": (10, 11)},
    **{"55": (10, 11), "56": (9, 9), "57": (10, 10), "60": (8, 10), "61": (9, 9), "62": (8, 12), "63": (8, 10)},
    **{"64": (8, 10), "65": (8, 8), "66": (8, 9), "81": (9, 10), "82": (8, 10), "84": (9, 10), "86": (10, 11)},
    **{"90": (10, 10), "91": (10, 10), "92": (9, 10), "98": (10, 10)},
}
"""Least and most digits after the country code. Source: ITU-T E.164 and the national numbering plans."""
_LEAST_UNSEPARATED = 10
"""`+347340107` may be a size (`tail -n +347340107`); numbers with separators may be shorter."""


def find_phones(text: str) -> Iterator[Finding]:
    """They may overlap: one number can have several of the forms."""
    for match in _INTERNATIONAL.finditer(text):
        if _is_international(match.group()):
            yield Finding("phone", match.start(), match.end())
    for pattern in (_NORTH_AMERICAN, _PAIRS, _CHINESE_MOBILE):
        for match in pattern.finditer(text):
            yield Finding("phone", match.start(), match.end())
    for match in _TRUNK.finditer(text):
        if 9 <= _n_digits(match.group()) <= 12 and len(set(match.group())) > 4:
            yield Finding("phone", match.start(), match.end())
    for match in _AFTER_WORD.finditer(text):
        if 7 <= _n_digits(match["number"]) <= 12 and not _is_amount_or_date(match["number"]):
            yield Finding("phone", *match.span("number"), 1)


def _is_international(number: str) -> bool:
    digits = re.sub(r"\(0\)|^00|\D", "", number)  # +44 (0)20: that 0 is left out when one calls from abroad
    if not re.search(r"\d[ ().\-/]", number) and len(digits) < _LEAST_UNSEPARATED:
        return False
    for n in (1, 2):
        if digits[:n] in _NATIONAL_LENGTHS:
            least, most = _NATIONAL_LENGTHS[digits[:n]]
            return least <= len(digits) - n <= most
    return 8 <= len(digits) <= 15


def _n_digits(text: str) -> int:
    return sum(one.isdigit() for one in text)


def _is_amount_or_date(number: str) -> bool:
    """`2024-05-01`, `1.200.000`, the beginning of an IP address."""
    return bool(_AMOUNT_OR_DATE.fullmatch(number))
