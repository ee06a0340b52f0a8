"""Which texts are labelled for measuring what is found of secrets and personal data, and how were they built?

`pii_labelled.jsonl` holds a text a line, with slots such as `⟦email:plain⟧` where a value of `pii_values.py` is put in
when the set is read, and `⟦=email:me@domain.com⟧` where a real text held one already. It has two halves:

- `dev`: patterns were tuned on it. `test`: nothing was; only its figures are told.
- Sentences of the halves were written apart, before any pattern: other wording, other surroundings (code, JSON, logs,
  letters, tables), other languages. The test half also holds forms of values that dev has none of (other countries,
  providers and spellings: `TEST_ONLY`). Both halves come from one author, who wrote the patterns as well, so figures on
  texts of strangers will be worse.
- Hard negatives were written by hand (hashes, UUIDs, versions, ISBNs, order numbers, placeholders, code, mathematics).
- Real negatives are rows drawn by seed from nl2bash (MIT; even rows for dev, odd ones for test), gsm8k (MIT) and
  banking77 (CC BY 4.0, PolyAI; customers' questions, unchanged); two thirds of the nl2bash rows hold four digits in a
  row, an @, a colon or a word like `token`, which makes them harder than most. The few that do hold an address or a
  password were labelled by hand: a public IP address and `user@host.tld` count; private addresses, netmasks, addresses
  of public resolvers and words such as `username:password` do not.
- `names` (both halves): texts with names and postal addresses of invented people, which show what is missed without a
  model of a language. They are no part of the other figures.

`python -m bench.keeping.pii_set` builds the file again (`--data` for the real rows).
"""

import argparse
import csv
import gzip
import json
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.keeping.pii_texts import NAMES, NEGATIVE, TEMPLATES
from bench.keeping.pii_values import VALUES

FILE = Path(__file__).with_name("pii_labelled.jsonl")
TEST_ONLY = {
    "api_key": (
        "sendgrid",
        "twilio",
        "digitalocean",
        "pypi",
        "groq",
        "telegram",
        "slack_hook",
        "mailgun",
        "azure",
        "hex",
    ),
    "token": ("google",),
    "private_key": ("pgp", "encrypted"),
    "email": ("chinese", "apostrophe", "encoded", "percent"),
    "phone": ("it", "jp", "jp_local", "cn", "nl", "ch", "se", "mx", "pl", "za", "kr", "ext"),
    "card": ("master_new", "diners", "jcb", "unionpay", "amex_bare", "dots"),
    "iban": ("ch", "no", "mt", "pl", "it_lower", "ae"),
    "ip_address": ("v6_upper", "v6_v4"),
    "national_id": ("us_itin", "es_nie", "it_fiscale", "cn_resident"),
}
"""Forms that the dev half has none of."""
_HALVES = {"dev": 101, "test": 202}
_TEXTS_A_KIND = 26
_SLOT = re.compile(r"⟦(=?)([a-z_]+):([^⟧]+)⟧")
_HARD = re.compile(r"\d{4}|@|[A-Za-z]:[A-Za-z0-9]|\d\.\d|(?i:passw|key|token|secret)")
_LABELLED_BY_HAND = {
    "backup@email.com": "email",
    "1.2.3.4": "ip_address",
    "173.194.33.71": "ip_address",
}


@dataclass(frozen=True, slots=True)
class Span:
    """Where something stands that must be found."""

    start: int
    end: int
    kind: str


@dataclass(frozen=True, slots=True)
class Labelled:
    """A text and what must be found in it."""

    half: str
    source: str
    text: str
    spans: tuple[Span, ...]


def read(seed: int, file: Path = FILE) -> list[Labelled]:
    """All texts, with values drawn by the seed."""
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    return [_filled(row, random.Random(f"{seed}/{place}")) for place, row in enumerate(rows)]


def _filled(row: dict[str, str], rng: random.Random) -> Labelled:
    parts, spans, length, last = [], [], 0, 0
    for slot in _SLOT.finditer(row["text"]):
        value = slot[3] if slot[1] else VALUES[slot[2]][slot[3]](rng)
        before = row["text"][last : slot.start()]
        spans.append(Span(length + len(before), length + len(before) + len(value), slot[2]))
        parts += [before, value]
        length, last = length + len(before) + len(value), slot.end()
    return Labelled(row["half"], row["source"], "".join([*parts, row["text"][last:]]), tuple(spans))


def _written(half: str, rng: random.Random) -> Iterator[dict[str, str]]:
    """Every form of a kind in turn, each time in another sentence."""
    for kind, halves in TEMPLATES.items():
        hidden = TEST_ONLY.get(kind, ()) if half == "dev" else ()
        forms = [form for form in VALUES[kind] if form not in hidden]
        for place in range(max(_TEXTS_A_KIND, len(forms))):
            form = forms[place % len(forms)]
            fits = [one for one in halves[half] if _suits(kind, form, one)]
            text = fits[(place + place // len(forms)) % len(fits)]
            yield {"half": half, "source": "written", "text": text.replace("⟦⟧", f"⟦{kind}:{form}⟧")}
    yield from ({"half": half, "source": "negative", "text": one} for one in NEGATIVE[half])
    yield from ({"half": half, "source": "names", "text": one} for one in NAMES[half])


def _suits(kind: str, form: str, template: str) -> bool:
    """Whether a value can stand there: a key without a prefix needs a name beside it, a block its lines."""
    if (kind, form) in {("api_key", "azure"), ("api_key", "hex")}:
        return "key" in template.lower()
    if kind == "email" and form in {"encoded", "percent"}:
        return ("://" in template) == (form == "encoded")
    if kind == "private_key":
        return ('"⟦⟧' in template) == (form == "escaped")
    return True


def _real(half: str, data: Path, rng: random.Random) -> Iterator[dict[str, str]]:
    for source, text in [*_nl2bash(half, data, rng), *_gsm8k(half, data, rng), *_banking77(half, data, rng)]:
        for value, kind in _LABELLED_BY_HAND.items():
            text = re.sub(rf"(?<![\d.]){re.escape(value)}(?![\d.])", f"⟦={kind}:{value}⟧", text)
        yield {"half": half, "source": source, "text": text}


def _nl2bash(half: str, data: Path, rng: random.Random) -> list[tuple[str, str]]:
    asked, commands = ((data / "nl2bash" / name).read_text().splitlines() for name in ("all.nl", "all.cm"))
    own = [place for place in range(len(commands)) if place % 2 == (half == "test")]
    hard = [place for place in own if _HARD.search(commands[place])]
    drawn = rng.sample(hard, 22) + rng.sample(own, 10)
    return [("nl2bash", f"{asked[place]}\n{commands[place]}") for place in drawn]


def _gsm8k(half: str, data: Path, rng: random.Random) -> list[tuple[str, str]]:
    with gzip.open(data / "gsm8k" / "train.jsonl.gz", "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines][half == "test" :: 2]
    return [("gsm8k", f"{row['question']}\n{row['answer']}") for row in rng.sample(rows, 25)]


def _banking77(half: str, data: Path, rng: random.Random) -> list[tuple[str, str]]:
    with (data / "banking77" / "train.csv").open(encoding="utf-8") as lines:
        rows = list(csv.reader(lines))[1 + (half == "test") :: 2]
    return [("banking77", row[0]) for row in rng.sample(rows, 20)]


def main() -> None:
    """Builds the file."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").splitlines()[0],
        epilog="example: python -m bench.keeping.pii_set --data ../shared/data",
    )
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder of the data sets")
    parser.add_argument("--seed", type=int, default=0, help="which rows are drawn, and in which order")
    data, seed = (lambda told: (told.data, told.seed))(parser.parse_args())
    rows: list[dict[str, str]] = []
    for half, own in _HALVES.items():
        rng = random.Random(own + seed)
        rows += [*_written(half, rng), *_real(half, data, rng)]
    FILE.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    print(f"{len(rows)} texts in {FILE}")


if __name__ == "__main__":
    main()
