"""How hard do a request's words look: its length, numbers, formulas, code, choices and question words?

Counts and shares on a logarithmic scale, cheap enough for the path. They are raw: whoever learns from them brings
them to one scale with the lessons that it learns from.
"""

import re
from collections import Counter
from collections.abc import Sequence
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

_HEAD, _TAIL = 1_600, 800
"""Characters read at both ends: a long text's middle is seldom the question, and this runs on the event loop."""
_LONG_WORD = 8

_TOKEN = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)?|\d[\d,]*(?:\.\d+)?")
# every pattern passes over a text once, whatever stands in it: callers write it, and no run of marks may be tried anew
# from each of its characters
_CHOICE = re.compile(r"(?m)^[ \t]*+\(?[A-Ea-e1-5][.):][ \t]*+(.+)$")
_CODE = re.compile(r"\b(?:def|return|import|class|assert|lambda)\b|print\(|==|=>|\};|</")
_TEX = re.compile(r"\\[a-zA-Z]+")
_END = "[.!?。!?\\n]"
_SENTENCE_END = re.compile(rf"(?<!{_END}){_END}(?:[.!?。!?]*+\n{_END}*+|{_END}*+(?:\s|$))")

_CHARACTERS = ("%", "$", "/", "\n", ",", "?", '"', "(", "_", "{", "=", "^", "*", "+", "|", ":", "'")
_CUES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("negation", ("not", "except", "never", "none", "no")),
    ("assumption", ("if", "suppose", "assume", "let", "given")),
    ("fraction", ("half", "twice", "times", "third", "quarter", "double", "percent")),
    ("distribution", ("each", "every", "per")),
    ("comparison", ("more", "less", "fewer", "than")),
    ("loop", ("for", "while")),
    ("duration", ("hour", "hours", "minute", "minutes", "day", "days", "week", "weeks", "month", "year", "years")),
    ("many", ("many",)),
    ("much", ("much",)),
    ("what", ("what",)),
    ("which", ("which",)),
    ("who", ("who", "when", "where")),
    ("why", ("why", "how", "explain")),
    ("truth", ("true", "false")),
    ("all", ("all", "both")),
    ("statement", ("statement", "statements", "following")),
    ("calculate", ("calculate", "compute", "find", "solve", "determine")),
    ("chance", ("probability", "chance", "random")),
    ("answer", ("choose", "answer", "question")),
    ("prove", ("prove", "show")),
    ("write", ("write", "create", "generate")),
    ("most", ("most", "best", "likely")),
)
_WORDS = tuple(word for _, words in _CUES for word in words)
_FIRST = (0, *accumulate(len(words) for _, words in _CUES))[:-1]

TEXT_FEATURES = (
    "characters",
    "words",
    "word_length",
    "distinct_words",
    "long_words",
    "sentences",
    "sentence_length",
    "numbers",
    "number_share",
    "number_digits",
    "longest_number",
    "decimals",
    "distinct_numbers",
    "capitals",
    "digits",
    "marks",
    "foreign",
    "tex",
    "code",
    "choices",
    "choice_length",
    "choice_spread",
    "choice_numbers",
    *(f"character_{character!r}" for character in _CHARACTERS),
    *(name for name, _ in _CUES),
)
"""Names of the features, in their order."""
TEXT_VERSION = 1
"""Raised whenever a feature changes its meaning."""


def text_features(text: str) -> tuple[float, ...]:
    """Features of a text, shape (len(TEXT_FEATURES),): finite, mostly logarithms of counts, in [0, 15]."""
    read = text if len(text) <= _HEAD + _TAIL else f"{text[:_HEAD]}\n{text[-_TAIL:]}"
    tokens: list[str] = _TOKEN.findall(read.lower())
    numbers = [token for token in tokens if token[0].isdecimal()]
    counted = Counter(tokens)
    n_words = max(len(tokens), 1)
    n_sentences = len(_SENTENCE_END.findall(read)) + 1
    bytes_seen = np.bincount(np.frombuffer(read.encode("utf-8", "replace"), dtype=np.uint8), minlength=256)
    classes = bytes_seen @ _CLASSES  # (n_classes,)
    n_bytes = max(int(bytes_seen.sum()), 1)
    lengths = list(map(len, tokens))
    digits = list(map(len, numbers))
    counts = np.array(
        [
            len(text),
            len(tokens),
            n_sentences,
            len(numbers),
            sum(digits),
            max(digits, default=0),
            sum("." in number for number in numbers),
            len(set(numbers)),
            classes[3],
            len(_TEX.findall(read)),
            len(_CODE.findall(read)),
        ]
    )
    logs = np.log1p(counts).tolist()
    cues = np.log1p(np.add.reduceat(np.array([counted[word] for word in _WORDS]), _FIRST)).tolist()
    characters = np.log1p(bytes_seen[_BYTES]).tolist()
    return (
        logs[0],
        logs[1],
        sum(lengths) / n_words / 5,
        len(counted) / n_words,
        sum(length >= _LONG_WORD for length in lengths) / n_words,
        logs[2],
        min(n_words / n_sentences / 20, 5.0),
        logs[3],
        len(numbers) / n_words,
        logs[4],
        logs[5],
        logs[6],
        logs[7],
        *(classes[:3] / n_bytes).tolist(),
        *logs[8:],
        *_of_choices(_CHOICE.findall(read)),
        *characters,
        *cues,
    )


def _of_choices(choices: Sequence[str]) -> tuple[float, float, float, float]:
    """How many answers to choose from, their length, how different their lengths, and the share that hold a digit."""
    if not choices:
        return 0.0, 0.0, 0.0, 0.0
    lengths = list(map(len, choices))
    mean = sum(lengths) / len(lengths)
    spread = (sum((length - mean) ** 2 for length in lengths) / len(lengths)) ** 0.5
    with_digit = sum(any(map(str.isdigit, choice)) for choice in choices) / len(choices)
    return len(choices) / 4, float(np.log1p(mean)), min(spread / 20, 5.0), with_digit


def _classes() -> NDArray[np.float64]:
    """Which byte is a capital, a digit, a mark, a part of a character beyond ASCII; shape (256, 4)."""
    table = np.zeros((256, 4))
    for byte in range(128):
        character = chr(byte)
        table[byte, 0] = character.isupper()
        table[byte, 1] = character.isdigit()
        table[byte, 2] = not character.isalnum() and not character.isspace()
    table[128:, 3] = 1.0
    return table


_CLASSES = _classes()
_BYTES = np.array([ord(character) for character in _CHARACTERS])
