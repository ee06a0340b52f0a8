import random
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from echo_proxy.policy_keeping import PERSONAL_KINDS, SECRET_KINDS
from echo_proxy.privacy.patterns import find

A40 = "aZ3kQ9xLmT7vB2nR8cYw" * 2
HEX32 = "9f86d081884c7d659a2feaa0c55ad015"


def found(text: str) -> list[tuple[str, str]]:
    """Kind and text of what is found, each once."""
    return sorted({(one.kind, text[one.start : one.end]) for one in find(text)})


@pytest.mark.parametrize(
    "key",
    [
        *(f"sk-proj-{A40}", "sk-ant-" + f"api03-{A40}", f"sk-{A40[:24]}", "AKIA" + "ABCDEFGH234567XY"),
        *("ghp_" + A40[:36], "github_pat_" + A40 + "_" + A40, "glpat-" + A40[:20], "xoxb-" + "1234567890-" + A40[:24]),
        *("sk_live_" + A40[:24], "AIza" + A40[:35], "hf_" + A40[:34], "npm_" + A40[:36], "pypi-" + A40 + A40),
        *(
            "SG." + A40[:22] + "." + A40 + "abc",
            "SK" + HEX32,
            "key-" + HEX32,
            "dop_v1_" + HEX32 * 2,
            "gsk_" + A40 + "abcd",
        ),
        "123456789:AA" + A40[:33],
        "https://hooks.slack.com/services/T12345678/B12345678/" + A40[:24],
    ],
)
def test_keys_of_providers_are_found_anywhere(key: str) -> None:
    """By the prefix that their provider documents, in prose and in code."""
    assert [(kind, text) for kind, text in found(f"it is {key}, ok?") if kind == "api_key"] == [("api_key", key)]
    assert ("api_key", key) in found(f'f("{key}")')


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("DB_PASSWORD=tiger#4711x", ("password", "tiger#4711x")),
        ('{"password": "hunter2"}', ("password", "hunter2")),
        ("password: correct-horse-battery-staple", ("password", "correct-horse-battery-staple")),
        ("my password is Sommer2024!", ("password", "Sommer2024!")),
        ("Das Passwort lautet Rakete99.", ("password", "Rakete99")),
        ("postgres://app:s3cr3tPw@db.example.com/x", ("password", "s3cr3tPw")),
        ("redis://:s3cr3tPw@cache:6379", ("password", "s3cr3tPw")),
        (f"client_secret = '{A40}'", ("api_key", A40)),
        (f"X-API-Key: {HEX32}", ("api_key", HEX32)),
        (f"aws_secret_access_key={A40}", ("api_key", A40)),
        (f"Authorization: Bearer {A40}", ("token", A40)),
        ("Authorization: Basic dXNlcjpwYXNzd29yZA==", ("password", "dXNlcjpwYXNzd29yZA==")),
        (f"access_token={A40}&x=1", ("token", A40)),
        (
            f"x eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3In0.{A40}",
            ("token", f"eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3In0.{A40}"),
        ),
    ],
)
def test_values_behind_a_telling_name_are_found(text: str, expected: tuple[str, str]) -> None:
    """Assignments, headers, URLs, and sentences; the value alone, not the name."""
    assert found(text) == [expected]


@pytest.mark.parametrize(
    "text",
    [
        "password = os.environ['DB_PASSWORD']",
        "password: ${DB_PASSWORD}",
        "api_key = get_secret('openai')",
        "token = tokenizer.next_token()",
        "API_KEY=<your-api-key>",
        "OPENAI_API_KEY=sk-...",
        "Authorization: Bearer $TOKEN",
        "def login(user: str, password: str) -> Token: ...",
        "postgres://user:password@localhost/db",
        "The secret of good bread is: time.",
        "client = Client(api_key=settings.api_key, password=config.password)",
    ],
)
def test_what_stands_for_a_secret_is_none(text: str) -> None:
    """Variables, templates, calls and prose."""
    assert found(text) == []


def test_a_private_key_is_found_from_end_to_end() -> None:
    """With its lines, escaped in JSON, and also where its end was cut off; certificates are public."""
    begin, end = "-----BEGIN RSA PRIVATE " + "KEY-----", "-----END RSA PRIVATE " + "KEY-----"
    body = "\n".join([A40, A40, "ab=="])
    whole, escaped = f"{begin}\n{body}\n{end}", f"{begin}\n{body}\n{end}".replace("\n", "\\n")

    assert ("private_key", whole) in found(f"my key:\n{whole}\nthanks")
    assert ("private_key", escaped) in found(f'{{"key": "{escaped}"}}')
    assert ("private_key", f"{begin}\n{body}\n") in found(f"{begin}\n{body}\n!")
    assert found(whole.replace("RSA PRIVATE KEY", "CERTIFICATE")) == []


@pytest.mark.parametrize(
    "address",
    [
        *("a@example.co", "maria.lopez+news@mail.example.com", "jörg.weiß@müller.example", "иван@пример.example"),
        *(
            "用户@例子.测试",
            "info@xn--mller-kva.example",
            "maria [at] example [dot] com",
            "lena.k%40example.com",
            "m.o'neill@example.ie",
        ),
    ],
)
def test_mail_addresses_of_all_scripts_are_found(address: str) -> None:
    """In a sentence, in brackets, in JSON."""
    assert [found(text.replace("{}", address)) for text in ("Write to {}.", "<{}>", '{"m": "{}"}')] == (
        [[("email", address)]] * 3
    )


@pytest.mark.parametrize(
    "text", ["git@github.com:team/app.git", "logo@2x.png", "@app.route('/x')", "react@18.2.0", "a @ b"]
)
def test_other_at_signs_are_no_address(text: str) -> None:
    """Services, files, decorators, versions."""
    assert found(text) == []


@pytest.mark.parametrize(
    "address", ["203.0.113.7", "198.51.100.200", "2001:db8::1:2", "2001:DB8:0:0:1:0:0:1", "::ffff:203.0.113.9"]
)
def test_public_ip_addresses_are_found(address: str) -> None:
    """Of both versions, also in a URL and in brackets."""
    assert ("ip_address", address) in found(f"from {address} port 22")
    assert ("ip_address", address) in found(f"[{address}]")


@pytest.mark.parametrize(
    "text",
    [
        *("192.168.1.1 10.0.0.1 172.16.9.9 127.0.0.1 0.0.0.0 255.255.255.0 8.8.8.8", "Chrome/120.0.0.0", "1.2.3.4.5"),
        *(
            "version 10.0.19.1",
            "scipy==1.11.4.1",
            "section 4.1.2.3",
            "999.1.1.1",
            "12:30:45",
            "00:1A:2B:3C:4D:5E",
            "a::b",
        ),
        *("std::vector", "::1", "fe80::1"),
    ],
)
def test_other_numbers_with_dots_and_colons_are_no_address(text: str) -> None:
    """Private networks, versions, chapters, times, hardware addresses, names of code."""
    assert found(text) == []


@pytest.mark.parametrize(
    "number",
    [
        *("(212) 555-0123", "212-555-0123", "212.555.0123", "+1 212 555 0123", "+12125550123", "020 7946 0123"),
        *(
            "07700 900123",
            "+44 (0)20 7946 0123",
            "030 23125 123",
            "0221/4710 234",
            "+49 171 3920012",
            "0049 30 23125123",
        ),
        *("01 99 00 12 34", "06.39.98.12.34", "+34 612 345 678", "+91 99999 12345", "(02) 5550 2345", "0491 570 156"),
        *("+55 (11) 95555-0123", "+81-3-5555-0123", "+48 555 234 567", "138 0013 8000"),
    ],
)
def test_phone_numbers_of_many_countries_are_found(number: str) -> None:
    """As they are written there, without a word that tells what they are."""
    assert found(f"It is {number}, I think") == [("phone", number)]


def test_bare_digits_are_a_phone_number_only_after_a_word() -> None:
    """`2125550123` could be anything."""
    assert found("phone: 2125550123") == [("phone", "2125550123")]
    assert found("order 2125550123") == []


@pytest.mark.parametrize(
    "number",
    ["4242424242424242", "4242 4242 4242 4242", "5555-5555-5555-4444", "3782 822463 10005", "6011000990139424"],
)
def test_cards_are_found_by_issuer_length_and_checksum(number: str) -> None:
    """A wrong digit makes it another number."""
    wrong = number[:-1] + str((int(number[-1]) + 1) % 10)

    assert found(f"my card {number} was declined") == [("card", number)]
    assert found(f"order {wrong} was shipped") == []


@pytest.mark.parametrize(
    "number",
    ["DE89370400440532013000", "DE89 3704 0044 0532 0130 00", "GB82 WEST 1234 5698 7654 32", "de89370400440532013000"],
)
def test_accounts_are_found_by_country_length_and_checksum(number: str) -> None:
    """A word behind it does not belong to it; a wrong digit makes it none."""
    assert ("iban", number) in found(f"to {number} please")
    assert "iban" not in dict(found(f"to {number.replace('3', '4', 1)} please"))


@pytest.mark.parametrize(
    "number",
    [
        "219-09-9999",
        "AB 12 34 56 C",
        "12345678Z",
        "X1234567L",
        "2 55 08 14 168 025 38",
        "RSSMRA85T10A562S",
        "111.444.777-35",
        "11010519491231002X",
        "2341 2341 2346",
    ],
)
def test_national_ids_are_found(number: str) -> None:
    """USA, United Kingdom, Spain (DNI, NIE), France, Italy, Brazil, China, India."""
    assert ("national_id", number) in found(f"id {number}.")


@pytest.mark.parametrize(
    "text",
    [
        "commit 9fceb02d0ae598e95dc970b74767f19372d61af8",
        "123e4567-e89b-12d3-a456-426614174000",
        "ISBN 978-3-16-148410-0, order 302-4567890-1234567",
        "From 2020-01-01 to 2024-12-31, 01.02.2024 and 03/04/2025",
        "epoch 1699999999999, max 18446744073709551615, pi 3.14159265358979323846",
        "1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16",
        "find / -size +100000000c; tail -n +20000001 big.csv; chmod 0755 0644",
        "Natalia sold 48/2 = <<48/2=24>>24 clips; 1,200,000.00 EUR; 12 345 678 rows",
        "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    ],
)
def test_numbers_of_another_kind_survive(text: str) -> None:
    """Hashes, ids, dates, constants, commands, mathematics."""
    assert found(text) == []


@given(st.text(max_size=300))
def test_findings_lie_in_the_text(text: str) -> None:
    """Never empty, of known kinds."""
    for one in find(text):
        assert 0 <= one.start < one.end <= len(text)
        assert one.kind in (*SECRET_KINDS, *PERSONAL_KINDS)


UNITS = (
    *("a", "0", "1 ", "1-", "1.", "+1", "@", "a@", "a@a.", "::", "eyJ", "eyJa.", "://a:", "password=", "token:", "sk-"),
    *("-----BEGIN PRIVATE " + "KEY-----", "DE12", "(0) ", "phone ", "bearer ", "password is ", "1.1.1.1.", "%40", "é"),
    *("[at]", "a [dot] ", "01 ", "4111 ", "x@x.x", "0" * 19 + " ", "AB 12 34 56 "),
)


@pytest.mark.parametrize("unit", UNITS)
def test_no_repetition_is_too_much(unit: str) -> None:
    """Every repetition in a pattern is bounded, so time grows with length alone; else the test's time limit ends it."""
    text = unit * (100_000 // len(unit))

    assert len(find(text)) <= len(text)


def test_a_megabyte_ends() -> None:
    """Of random characters of which patterns are made, and of everything that begins like a finding."""
    rng = random.Random(7)
    noise = "".join(rng.choices(string.ascii_letters + string.digits + " .-_@:/+=()[]\"'\n", k=500_000))
    text = noise + "".join(rng.choices(UNITS, k=500_000))[:500_000]

    assert len(find(text)) <= len(text)
