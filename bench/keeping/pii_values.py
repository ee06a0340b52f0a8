"""Which made-up secrets and personal data are put into the labelled texts?

Nothing here belongs to anybody: numbers are drawn by a seed, from ranges reserved for fiction and documentation where a
country has them (the 555-01xx numbers of North America, Ofcom's and the Bundesnetzagentur's numbers for drama, ACMA's,
ARCEP's; RFC 2606 names, RFC 5737 and RFC 3849 addresses; test cards), and keys are random characters behind the prefix
that their provider documents. They are drawn when the set is read, so that no file holds what looks like a live key.
"""

import base64
import json
import random
import string
from collections.abc import Callable

_ALNUM = string.ascii_letters + string.digits
_HEX = "0123456789abcdef"
_UPPER = string.ascii_uppercase + string.digits

Maker = Callable[[random.Random], str]


def _some(rng: random.Random, alphabet: str, n: int) -> str:
    return "".join(rng.choice(alphabet) for _ in range(n))


def _shaped(shape: str) -> Maker:
    """`#` a digit, `%` a digit but 0 and 1, `A` stays: everything else stands for itself."""

    def make(rng: random.Random) -> str:
        return "".join(
            str(rng.randrange(10)) if one == "#" else str(rng.randrange(2, 10)) if one == "%" else one for one in shape
        )

    return make


def _keyed(prefix: str, alphabet: str, n: int, suffix: str = "") -> Maker:
    return lambda rng: f"{prefix}{_some(rng, alphabet, n)}{suffix}"


def _one_of(*values: str) -> Maker:
    return lambda rng: rng.choice(values)


def luhn_digit(digits: str) -> str:
    """The check digit that makes them pass Luhn's test."""
    total = sum(sum(divmod(int(one) * (2 if place % 2 == 0 else 1), 10)) for place, one in enumerate(reversed(digits)))
    return str(-total % 10)


def _card(prefix: str, length: int, groups: tuple[int, ...] = (), separator: str = "") -> Maker:
    def make(rng: random.Random) -> str:
        body = prefix + _some(rng, string.digits, length - len(prefix) - 1)
        number = body + luhn_digit(body)
        parts, start = [], 0
        for size in groups or (length,):
            parts.append(number[start : start + size])
            start += size
        return separator.join(parts)

    return make


def _iban(country: str, shape: str, spaced: bool, lower: bool = False) -> Maker:
    """Of a shape in `#` digits and `A` letters."""

    def make(rng: random.Random) -> str:
        body = "".join(_some(rng, string.digits if one == "#" else string.ascii_uppercase, 1) for one in shape)
        moved = "".join(str(int(one, 36)) for one in f"{body}{country}00")
        number = f"{country}{98 - int(moved) % 97:02d}{body}"
        shown = " ".join(number[at : at + 4] for at in range(0, len(number), 4)) if spaced else number
        return shown.lower() if lower else shown

    return make


def _jwt(rng: random.Random) -> str:
    def part(value: object) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")

    head, body = {"alg": "HS256", "typ": "JWT"}, {"sub": _some(rng, string.digits, 10), "iat": rng.randrange(10**9)}
    return f"{part(head)}.{part(body)}.{_some(rng, _ALNUM + '-_', 43)}"


def _pem(label: str, lines: int) -> Maker:
    def make(rng: random.Random) -> str:
        body = "\n".join(_some(rng, _ALNUM + "+/", 64) for _ in range(lines))
        return f"-----BEGIN {label}-----\n{body}\n{_some(rng, _ALNUM, 22)}==\n-----END {label}-----"

    return make


def _escaped_pem(rng: random.Random) -> str:
    return _pem("PRIVATE KEY", 4)(rng).replace("\n", "\\n")


def _password(rng: random.Random) -> str:
    word = rng.choice(["tiger", "Maple", "rocket", "Falcon", "copper", "Winter"])
    return f"{word}{rng.choice('!#%_-')}{rng.randrange(100, 9999)}{_some(rng, string.ascii_letters, 3)}"


def _random_password(rng: random.Random) -> str:
    return _some(rng, _ALNUM, 8) + rng.choice("!#*_") + _some(rng, _ALNUM, 6)


def _weak(rng: random.Random) -> str:
    return rng.choice(["hunter2", "letmein99", "qwerty123", "dragon2024", "Summer2023"])


def _phrase(rng: random.Random) -> str:
    return "-".join(rng.sample(["correct", "horse", "battery", "staple", "orbit", "velvet", "cactus"], 4))


def _dni(rng: random.Random) -> str:
    number = rng.randrange(10**7, 10**8)
    return f"{number}{'TRWAGMYFPDXBNJZSQVHLCKE'[number % 23]}"


def _nie(rng: random.Random) -> str:
    number = rng.randrange(10**6, 10**7)
    return f"X{number}{'TRWAGMYFPDXBNJZSQVHLCKE'[number % 23]}"


def _cpf(rng: random.Random) -> str:
    digits = [rng.randrange(10) for _ in range(9)]
    for _ in range(2):
        rest = sum(one * weight for one, weight in zip(digits, range(len(digits) + 1, 1, -1), strict=True)) * 10 % 11
        digits.append(rest % 10)
    text = "".join(map(str, digits))
    return f"{text[:3]}.{text[3:6]}.{text[6:9]}-{text[9:]}"


def _nir(rng: random.Random) -> str:
    born = f"{rng.choice('12')}{rng.randrange(100):02d}{rng.randrange(1, 13):02d}"
    body = f"{born}{rng.randrange(10, 90)}{rng.randrange(10**6):06d}"
    key = f"{97 - int(body) % 97:02d}"
    return f"{body[0]} {body[1:3]} {body[3:5]} {body[5:7]} {body[7:10]} {body[10:13]} {key}"


def _resident(rng: random.Random) -> str:
    """China's eighteen characters."""
    born = f"{rng.randrange(1950, 2005)}{rng.randrange(1, 13):02d}{rng.randrange(1, 29):02d}"
    body = f"110105{born}{rng.randrange(1000):03d}"
    weights = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
    rest = sum(int(one) * weight for one, weight in zip(body, weights, strict=True)) % 11
    return body + "10X98765432"[rest]


def _fiscale(rng: random.Random) -> str:
    """Italy's sixteen characters."""
    odd = dict(zip(_ORDER, (1, 0, 5, 7, 9, 13, 15, 17, 19, 21) * 2 + _ODD_REST, strict=True))
    born = f"{rng.randrange(40, 99)}{rng.choice('ABCDEHLMPRST')}{rng.randrange(10, 29)}"
    body = f"{_some(rng, 'BCDFGLMNPRST', 6)}{born}H{rng.randrange(100, 999)}"
    total = sum(
        odd[one] if place % 2 == 0 else (int(one) if one.isdigit() else ord(one) - 65) for place, one in enumerate(body)
    )
    return body + chr(65 + total % 26)


_ORDER = string.digits + string.ascii_uppercase
_ODD_REST = (2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23)

VALUES: dict[str, dict[str, Maker]] = {
    "api_key": {
        "openai": lambda rng: f"sk-{_some(rng, _ALNUM, 20)}T3BlbkFJ{_some(rng, _ALNUM, 20)}",
        "openai_project": _keyed("sk-proj-", _ALNUM + "-_", 110, "A"),
        "anthropic": _keyed("sk-ant-api03-", _ALNUM + "-_", 93, "AA"),
        "aws_id": _keyed("AKIA", "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", 16),
        "github": _keyed("ghp_", _ALNUM, 36),
        "github_fine": lambda rng: f"github_pat_{_some(rng, _ALNUM, 22)}_{_some(rng, _ALNUM, 59)}",
        "gitlab": _keyed("glpat-", _ALNUM + "-_", 19, "x"),
        "slack": lambda rng: (
            f"xoxb-{_some(rng, string.digits, 12)}-{_some(rng, string.digits, 13)}-{_some(rng, _ALNUM, 24)}"
        ),
        "stripe": _keyed("sk_live_", _ALNUM, 24),
        "google": _keyed("AIza", _ALNUM + "-_", 34, "k"),
        "huggingface": _keyed("hf_", string.ascii_letters, 34),
        "npm": _keyed("npm_", _ALNUM, 36),
        "litellm": _keyed("sk-", _ALNUM, 22),
        "sendgrid": lambda rng: f"SG.{_some(rng, _ALNUM, 22)}.{_some(rng, _ALNUM, 43)}",
        "twilio": _keyed("SK", _HEX, 32),
        "digitalocean": _keyed("dop_v1_", _HEX, 64),
        "pypi": _keyed("pypi-AgEIcHlwaS5vcmc", _ALNUM + "-_", 70, "c"),
        "groq": _keyed("gsk_", _ALNUM, 52),
        "telegram": lambda rng: f"{rng.randrange(10**8, 10**9)}:AA{_some(rng, _ALNUM + '-_', 32)}q",
        "slack_hook": lambda rng: (
            f"https://hooks.slack.com/services/T{_some(rng, _UPPER, 8)}/B{_some(rng, _UPPER, 8)}"
            f"/{_some(rng, _ALNUM, 24)}"
        ),
        "mailgun": _keyed("key-", _HEX, 32),
        "azure": _keyed("", _ALNUM + "+/", 86, "=="),
        "hex": _keyed("", _HEX, 40),
    },
    "token": {
        "jwt": _jwt,
        "opaque": _keyed("", _ALNUM + "-_", 40, "r"),
        "hex": _keyed("", _HEX, 40),
        "google": _keyed("ya29.", _ALNUM + "-_", 80, "g"),
    },
    "private_key": {
        "rsa": _pem("RSA PRIVATE KEY", 12),
        "openssh": _pem("OPENSSH PRIVATE KEY", 6),
        "pkcs8": _pem("PRIVATE KEY", 8),
        "ec": _pem("EC PRIVATE KEY", 2),
        "escaped": _escaped_pem,
        "pgp": _pem("PGP PRIVATE KEY BLOCK", 10),
        "encrypted": _pem("ENCRYPTED PRIVATE KEY", 9),
    },
    "password": {"word": _password, "random": _random_password, "weak": _weak, "phrase": _phrase},
    "email": {
        "plain": _one_of("maria.lopez@example.com", "t.nguyen@example.org", "support-emea@example.net", "a@example.co"),
        "plus": _one_of("sam+billing@example.com", "jo.b+2024@mail.example.org"),
        "sub": _one_of("ops@eu-west.mail.example.com", "noreply@news.shop.example.net"),
        "upper": _one_of("Hanna.Berg@Example.COM", "IT-DESK@EXAMPLE.ORG"),
        "digits": _one_of("user_8841@example.com", "1985kim@example.net", "x99@a1.example"),
        "german": _one_of("jörg.weiß@müller.example", "grüße@büro.example"),
        "greek": _one_of("νίκος@παράδειγμα.example", "ελένη.κ@example.com"),
        "cyrillic": _one_of("иван.петров@пример.example", "почта@пример.испытание"),
        "chinese": _one_of("用户@例子.测试", "wang.李@example.cn"),
        "punycode": _one_of("info@xn--mller-kva.example", "kontakt@xn--bro-hoa.example"),
        "apostrophe": _one_of("m.o'neill@example.ie", "d'arcy.f@example.co.uk"),
        "spelled": _one_of("maria [at] example [dot] com", "k.ito(at)example(dot)org"),
        "encoded": _one_of("lena.k%40example.com", "r_singh%40mail.example.org"),
        "percent": _one_of("bounce%list@example.org", "a&b@example.com"),
    },
    "phone": {
        "us": _shaped("(%02) 555-01##"),
        "us_dashes": _shaped("%15-555-01##"),
        "us_dots": _shaped("%13.555.01##"),
        "us_intl": _shaped("+1 %12 555 01##"),
        "us_e164": _shaped("+1%12555%###"),
        "uk": _shaped("020 7946 0###"),
        "uk_mobile": _shaped("07700 900###"),
        "uk_intl": _shaped("+44 (0)20 7946 0###"),
        "de": _shaped("030 23125 ###"),
        "de_slash": _shaped("0221/4710 %##"),
        "de_intl": _shaped("+49 171 39200##"),
        "de_zeros": _shaped("0049 30 23125###"),
        "fr": _shaped("01 99 00 ## ##"),
        "fr_dots": _shaped("06.39.98.##.##"),
        "es": _shaped("+34 612 ### ###"),
        "in": _shaped("+91 99999 #####"),
        "au": _shaped("(02) 5550 %###"),
        "au_mobile": _shaped("0491 570 %##"),
        "br": _shaped("+55 (11) 95555-01##"),
        "it": _shaped("+39 06 5555 ####"),
        "jp": _shaped("+81-3-5555-####"),
        "jp_local": _shaped("03-5555-%###"),
        "cn": _shaped("138 0013 %###"),
        "nl": _shaped("+31 20 555 ## ##"),
        "ch": _shaped("044 555 ## ##"),
        "se": _shaped("070-1740 6##"),
        "mx": _shaped("+52 55 5555 %###"),
        "us_bare": _shaped("%12555%###"),
        "pl": _shaped("+48 555 %## ###"),
        "za": _shaped("+27 21 555 %###"),
        "kr": _shaped("010-5555-%###"),
        "ext": _shaped("%12-555-01## ext. ###"),
    },
    "card": {
        "visa": _card("4", 16),
        "visa_spaces": _card("4", 16, (4, 4, 4, 4), " "),
        "master_dashes": _card("52", 16, (4, 4, 4, 4), "-"),
        "amex": _card("37", 15, (4, 6, 5), " "),
        "discover": _card("6011", 16),
        "known": _one_of("4242 4242 4242 4242", "4111111111111111", "5555555555554444", "378282246310005"),
        "master_new": _card("2223", 16),
        "diners": _card("36", 14, (4, 6, 4), " "),
        "jcb": _card("3530", 16, (4, 4, 4, 4), " "),
        "unionpay": _card("6221", 19),
        "amex_bare": _card("34", 15),
        "dots": _card("4", 16, (4, 4, 4, 4), "."),
    },
    "iban": {
        "de": _iban("DE", "#" * 18, spaced=False),
        "de_spaced": _iban("DE", "#" * 18, spaced=True),
        "gb": _iban("GB", "AAAA" + "#" * 14, spaced=True),
        "nl": _iban("NL", "AAAA" + "#" * 10, spaced=False),
        "es": _iban("ES", "#" * 20, spaced=True),
        "fr": _iban("FR", "#" * 23, spaced=True),
        "ch": _iban("CH", "#" * 17, spaced=False),
        "no": _iban("NO", "#" * 11, spaced=True),
        "mt": _iban("MT", "AAAA" + "#" * 23, spaced=False),
        "pl": _iban("PL", "#" * 24, spaced=True),
        "it_lower": _iban("IT", "A" + "#" * 22, spaced=False, lower=True),
        "ae": _iban("AE", "#" * 19, spaced=False),
    },
    "ip_address": {
        "v4": _shaped("203.0.113.%#"),
        "v4_other": _shaped("198.51.100.%%"),
        "v4_public": lambda rng: (
            f"{rng.randrange(80, 95)}.{rng.randrange(256)}.{rng.randrange(256)}.{rng.randrange(1, 255)}"
        ),
        "v6": lambda rng: f"2001:db8::{rng.randrange(1, 65536):x}:{rng.randrange(1, 65536):x}",
        "v6_full": lambda rng: "2001:0db8:" + ":".join(f"{rng.randrange(65536):04x}" for _ in range(6)),
        "v6_upper": lambda rng: f"2001:DB8:{rng.randrange(4096, 65536):X}::{rng.randrange(1, 4096):X}",
        "v6_v4": lambda rng: f"::ffff:203.0.113.{rng.randrange(1, 255)}",
    },
    "national_id": {
        "us_ssn": _one_of("219-09-9999", "078-05-1120", "457-55-5462"),
        "us_itin": _shaped("9##-7%-####"),
        "us_ssn_bare": _one_of("219099999", "078051120"),
        "uk_nino": _shaped("AB ## ## ## C"),
        "uk_nino_tight": _shaped("JG######D"),
        "es_dni": _dni,
        "es_nie": _nie,
        "fr_nir": _nir,
        "it_fiscale": _fiscale,
        "br_cpf": _cpf,
        "cn_resident": _resident,
    },
}
