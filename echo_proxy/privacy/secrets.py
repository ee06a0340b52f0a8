"""Which keys, tokens, passwords and private keys stand in a text?

Every repetition is bounded, so that the time grows with the text's length and no faster, whoever wrote it.
"""

import re
from collections.abc import Iterator

from echo_proxy.privacy.finding import Finding
from echo_proxy.privacy.likeness import is_made_up, is_password, is_random

_PROVIDER_KEY = re.compile(
    r"(?<![A-Za-z0-9])(?:"
    r"sk-ant-[\w-]{20,200}|sk-(?:proj|svcacct|admin|or-v1|lf)-[\w-]{20,250}"  # Anthropic; OpenAI, OpenRouter, Langfuse
    r"|(?:A3T[A-Z0-9]|AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}(?![A-Z0-9])"  # AWS
    r"|gh[pousr]_[A-Za-z0-9]{36,255}|github_pat_\w{40,255}"
    r"|gl(?:pat|ptt|dt|rt|cbt|ft|soat|agent|imt|oas)-[\w-]{20,300}"  # GitLab
    r"|xox[abeoprs]-[A-Za-z0-9-]{10,250}|xapp-[A-Za-z0-9-]{10,250}"  # Slack
    r"|[sr]k_(?:live|test)_[A-Za-z0-9]{16,250}|whsec_[A-Za-z0-9+/=]{24,250}"  # Stripe
    r"|AIza[\w-]{35}|GOCSPX-[\w-]{28}"  # Google
    r"|hf_[A-Za-z0-9]{30,60}|api_org_[A-Za-z]{34}"  # Hugging Face
    r"|npm_[A-Za-z0-9]{36}|pypi-[\w-]{50,250}|dckr_pat_[\w-]{20,60}"
    r"|SG\.[\w-]{16,32}\.[\w-]{16,64}|SK[0-9a-f]{32}(?![0-9a-f])|key-[0-9a-f]{32}(?![0-9a-f])"
    r"|do[opr]_v1_[0-9a-f]{64}|shp(?:at|ca|pa|ss)_[0-9a-fA-F]{32}|dapi[0-9a-f]{32}(?![0-9a-f])"
    r"|gsk_[A-Za-z0-9]{40,80}|r8_[A-Za-z0-9]{36,40}|xai-[A-Za-z0-9]{60,120}|nvapi-[\w-]{40,120}|pplx-[A-Za-z0-9]{40,80}"
    r"|hvs\.[\w-]{24,250}|lin_api_[A-Za-z0-9]{40}|glsa_[A-Za-z0-9]{32}_[0-9a-f]{8}|sntrys_[\w+/=-]{40,250}"
    r"|sq0(?:atp|csp)-[\w-]{22,50}|AGE-SECRET-KEY-1[0-9A-Z]{58}|\d{8,10}:AA[\w-]{33}(?![\w-])"  # the last: Telegram
    r"|https://hooks\.slack\.com/services/T\w{6,16}/B\w{6,16}/\w{16,40}"
    r"|https://(?:\w{1,10}\.)?discord(?:app)?\.com/api/webhooks/\d{10,25}/[\w-]{40,100}"
    r")"
)
"""Prefixes that providers document so that leaked keys are found."""
_SK = re.compile(r"(?<![A-Za-z0-9_-])sk-[A-Za-z0-9_-]{16,200}")
"""OpenAI's old keys, LiteLLM's and others': what follows must look random."""
_JWT = re.compile(r"(?<![\w-])eyJ[\w-]{8,4096}\.[\w-]{8,16384}\.[\w-]{0,2048}")
_GOOGLE_TOKEN = re.compile(r"(?<![\w.-])ya29\.[\w-]{20,1024}")
_BEARER = re.compile(r"(?i:\bbearer)[ \t]{1,4}(?P<value>[\w.~+/=-]{16,4096})")
_BASIC = re.compile(r"(?i:authorization[\"']?\s{0,3}[:=]\s{0,3}[\"']?basic)[ ]{1,4}(?P<value>[A-Za-z0-9+/=]{8,1024})")
_URL_PASSWORD = re.compile(r"://(?P<user>[^\s/:@\"'<>]{0,128}):(?P<value>[^\s/@\"'<>]{1,256})@")
_NAME = (
    r"(?P<password>passw(?:or)?d|passphrase|passwort|kennwort|\bpass|pwd|contraseña|senha"
    r"|wachtwoord|mot de passe|пароль)"
    r"|(?P<api_key>(?:api|access|secret|account|subscription|signing|encryption|master|auth|private|service)"
    r"[ _-]?(?:access[_-]?)?key|(?:client|app|shared|webhook|consumer)[ _-]?secret|\bsecret|_secret)"
    r"|(?P<token>token)"
)
_ASSIGNED = re.compile(
    rf"(?:{_NAME})(?:[ _-]?(?:id|value|\d))?[\"'`\]]{{0,2}}\s{{0,4}}(?::=|=>|[:=])\s{{0,4}}"
    r"(?:[rbf]?(?P<quote>[\"'`])(?P<quoted>[^\n\"'`]{4,1024})(?P=quote)|(?P<bare>[^\s\"'`,;<>(){}\[\]&|]{4,1024}+)(?![(\[]))",
    re.IGNORECASE,
)
"""`DB_PASSWORD=...`, `"apiKey": "..."`, `secret: ...`; the names of what is assigned decide the kind."""
_TOLD = re.compile(
    r"(?:password|passcode|passwort|kennwort|pin|contraseña|wachtwoord|senha|mot de passe|пароль)\b[^.:=\n]{0,24}?\s"
    r"(?:is|was|ist|lautet|est|es|é|to)\s{1,3}[\"'`]?(?P<bare>[^\s\"'`,;<>(){}]{6,128})",
    re.IGNORECASE,
)
"""`my password is ...`"""
_TELLING = ("pass", "pwd", "key", "secret", "token", "wort", "pin", "contraseña", "wachtwoord", "senha", "пароль")
"""Without one of these in it a text needs no look at its assignments, which take most of the time."""
_PEM_BEGIN = re.compile(r"-----BEGIN (?:[A-Z0-9]{1,12} ){0,3}PRIVATE KEY(?: BLOCK)?-----")
_PEM_END = re.compile(r"-----END (?:[A-Z0-9]{1,12} ){0,3}PRIVATE KEY(?: BLOCK)?-----")
_PEM_REST = re.compile(r"[A-Za-z0-9+/=\s\\:,-]*+")
_PEM_MOST = 20_000
"""Characters of a private key; RSA of 16384 bits takes 13,000."""


def find_secrets(text: str) -> Iterator[Finding]:
    """Those of all kinds; they may overlap."""
    yield from _private_keys(text)
    yield from _with_a_prefix(text)
    yield from _in_headers_and_urls(text)
    yield from _assigned(text)


def _with_a_prefix(text: str) -> Iterator[Finding]:
    for match in _PROVIDER_KEY.finditer(text):
        yield Finding("api_key", match.start(), match.end(), 3)
    for match in _SK.finditer(text):
        if is_random(match.group()[3:]):
            yield Finding("api_key", match.start(), match.end(), 3)
    for pattern in (_JWT, _GOOGLE_TOKEN):
        for match in pattern.finditer(text):
            yield Finding("token", match.start(), match.end(), 3)


def _in_headers_and_urls(text: str) -> Iterator[Finding]:
    for match in _BEARER.finditer(text):
        if is_random(match["value"]):
            yield Finding("token", *match.span("value"))
    for match in _BASIC.finditer(text):
        yield Finding("password", *match.span("value"))
    for match in _URL_PASSWORD.finditer(text):
        if match["value"] != match["user"] and not is_made_up(match["value"]):
            yield Finding("password", *match.span("value"), 3)


def _assigned(text: str) -> Iterator[Finding]:
    lowered = text.lower()
    if not any(word in lowered for word in _TELLING):
        return
    for match in _ASSIGNED.finditer(text):
        kind = next(name for name in ("password", "api_key", "token") if match[name])
        group = "quoted" if match["quoted"] else "bare"
        if _is_secret(kind, match[group]):
            yield _without_stop(Finding(kind, *match.span(group)), text)
    for match in _TOLD.finditer(text):
        if is_password(match["bare"]):
            yield _without_stop(Finding("password", *match.span("bare"), 1), text)


def _is_secret(kind: str, value: str) -> bool:
    return is_password(value) if kind == "password" else is_random(value)


def _without_stop(found: Finding, text: str) -> Finding:
    """Without the full stop or comma after it."""
    end = found.end
    while end - found.start > 4 and text[end - 1] in ".,:":
        end -= 1
    return Finding(found.kind, found.start, end, found.certainty)


def _private_keys(text: str) -> Iterator[Finding]:
    """From BEGIN to END; where END is missing, as far as it looks like a key."""
    place = 0
    while begin := _PEM_BEGIN.search(text, place):
        limit = begin.end() + _PEM_MOST
        rest = _PEM_REST.match(text, begin.end(), limit)
        end = _PEM_END.search(text, begin.end(), limit)
        place = end.end() if end else rest.end() if rest else begin.end()
        yield Finding("private_key", begin.start(), place, 3)
