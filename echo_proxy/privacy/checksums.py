"""Does a number carry the check digits that its kind must have?"""

from collections.abc import Sequence

_IBAN_LENGTHS = {
    **{"AD": 24, "AE": 23, "AL": 28, "AT": 20, "AZ": 28, "BA": 20, "BE": 16, "BG": 22, "BH": 22, "BI": 27, "BR": 29},
    **{"BY": 28, "CH": 21, "CR": 22, "CY": 28, "CZ": 24, "DE": 22, "DJ": 27, "DK": 18, "DO": 28, "EE": 20, "EG": 29},
    **{"ES": 24, "FI": 18, "FK": 18, "FO": 18, "FR": 27, "GB": 22, "GE": 22, "GI": 23, "GL": 18, "GR": 27, "GT": 28},
    **{"HN": 28, "HR": 21, "HU": 28, "IE": 22, "IL": 23, "IQ": 23, "IS": 26, "IT": 27, "JO": 30, "KW": 30, "KZ": 20},
    **{"LB": 28, "LC": 32, "LI": 21, "LT": 20, "LU": 20, "LV": 21, "LY": 25, "MC": 27, "MD": 24, "ME": 22, "MK": 19},
    **{"MN": 20, "MR": 27, "MT": 31, "MU": 30, "NI": 28, "NL": 18, "NO": 15, "OM": 23, "PK": 24, "PL": 28, "PS": 29},
    **{"PT": 25, "QA": 29, "RO": 24, "RS": 22, "RU": 33, "SA": 24, "SC": 31, "SD": 18, "SE": 24, "SI": 19, "SK": 24},
    **{"SM": 27, "SO": 23, "ST": 25, "SV": 28, "TL": 23, "TN": 24, "TR": 26, "UA": 29, "VA": 22, "VG": 24, "XK": 20},
    "YE": 30,
}
"""Characters of an IBAN by country. Source: SWIFT's IBAN registry."""
_DNI_LETTERS = "TRWAGMYFPDXBNJZSQVHLCKE"
_RESIDENT_WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
_FISCALE_ODD = (
    *(1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 1, 0, 5, 7, 9, 13, 15, 17, 19, 21),
    *(2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23),
)
"""Worth of 0-9 and A-Z in odd places of an Italian tax code. Source: decree of 12 March 1974."""
_VERHOEFF_TURN = (1, 5, 7, 6, 2, 8, 3, 0, 9, 4)


def is_luhn(digits: str) -> bool:
    """Payment cards (ISO/IEC 7812-1). A row of one digit again and again does not count."""
    total = sum(sum(divmod(int(one) * (1 + place % 2), 10)) for place, one in enumerate(reversed(digits)))
    return total % 10 == 0 and len(set(digits)) > 1


def iban_length(country: str) -> int | None:
    """Characters of an IBAN of that country; None when it has none."""
    return _IBAN_LENGTHS.get(country)


def is_iban(number: str) -> bool:
    """Upper case, without spaces (ISO 13616)."""
    return (
        len(number) == iban_length(number[:2]) and int("".join(str(int(one, 36)) for one in _turned(number))) % 97 == 1
    )


def _turned(number: str) -> str:
    return number[4:] + number[:4]


def is_dni(number: str) -> bool:
    """Spain's DNI, or NIE when it begins with X, Y or Z: the letter follows from the number modulo 23."""
    body = number[:-1].translate(str.maketrans("XYZ", "012"))
    return number[-1] == _DNI_LETTERS[int(body) % 23]


def is_nir(digits: str) -> bool:
    """France's number of social security: 13 digits and 97 minus their remainder."""
    return int(digits[13:]) == 97 - int(digits[:13]) % 97


def is_cpf(digits: str) -> bool:
    """Brazil's CPF: two check digits modulo 11."""
    numbers = [int(one) for one in digits]
    return len(set(digits)) > 1 and all(numbers[n] == _cpf_digit(numbers[:n]) for n in (9, 10))


def _cpf_digit(numbers: Sequence[int]) -> int:
    weights = range(len(numbers) + 1, 1, -1)
    return sum(one * weight for one, weight in zip(numbers, weights, strict=True)) * 10 % 11 % 10


def is_resident_id(number: str) -> bool:
    """China's 18 characters (GB 11643-1999, ISO 7064 MOD 11-2)."""
    total = sum(int(one) * weight for one, weight in zip(number[:17], _RESIDENT_WEIGHTS, strict=True))
    return number[17].upper() == "10X98765432"[total % 11]


def is_codice_fiscale(code: str) -> bool:
    """Italy's 16 characters, upper case: the last follows from the others."""
    odd = sum(_FISCALE_ODD[int(one, 36)] for one in code[0:15:2])
    even = sum(int(one) if one.isdigit() else ord(one) - ord("A") for one in code[1:15:2])
    return ord(code[15]) - ord("A") == (odd + even) % 26


def is_verhoeff(digits: str) -> bool:
    """India's Aadhaar (Verhoeff 1969): every single wrong digit and every swap of neighbours is noticed."""
    check = 0
    for place, one in enumerate(reversed(digits)):
        turned = int(one)
        for _ in range(place % 8):
            turned = _VERHOEFF_TURN[turned]
        check = _in_dihedral_group(check, turned)
    return check == 0


def _in_dihedral_group(left: int, right: int) -> int:
    """Their product in the group of the pentagon's ten symmetries: 0-4 turn it, 5-9 mirror it."""
    turn = left + right if left < 5 else left - right
    mirrored = (left < 5) != (right < 5)
    return turn % 5 + (5 if mirrored else 0)
