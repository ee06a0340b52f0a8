"""Which tokens does an answer's form allow? JSON, or JSON that follows a schema, as a grammar of llama.cpp."""

import codecs
import re
from itertools import accumulate
from typing import Any

import llama_cpp
from llama_cpp import llama_grammar

from echo_proxy.engine.chat import ChatRejected, ChatRequest
from echo_proxy.llama.candidates import Candidates
from echo_proxy.llama.vocabulary import Vocabulary

_MOST_RULE_BYTES = 1 << 18
"""A grammar is parsed on the engine's thread, while all others wait: 68 KB with 5,000 words took 36 ms."""
_MOST_SCHEMA_CHARACTERS = 1 << 15
"""llama-cpp-python's work grows with the square of the number of optional fields: 300 took 67 ms."""
_DEEPEST = 1000
"""Parentheses in parentheses. llama.cpp's parser recurses: 30,000 (a string of at most so many characters) end the
process for want of stack; by its own rules it refuses about 1,500."""
_QUOTED = re.compile(r'"(?:\\.|[^"\\])*"|\[(?:\\.|[^\]\\])*\]')
"""Texts and classes of characters, in which parentheses mean themselves."""


class Grammar:
    """What may come next in one answer. Wrong tokens never reach llama.cpp, which would end the process."""

    def __init__(self, vocabulary: Vocabulary, rules: str) -> None:
        """Parse the rules, in GBNF with `root` as their start. Raises ChatRejected, naming response_format."""
        self._sampler: Any = None
        raw = rules.encode("utf-8", "replace")
        if len(raw) <= _MOST_RULE_BYTES and b"\0" not in raw and _depth(rules) <= _DEEPEST:
            self._sampler = llama_cpp.llama_sampler_init_grammar(vocabulary.pointer, raw, b"root")
        if not self._sampler:
            raise ChatRejected("response_format: the schema makes no grammar that llama.cpp accepts", "response_format")
        self._vocabulary = vocabulary
        self._one = Candidates(1)
        self._decoder = codecs.getincrementaldecoder("utf-8")("strict")

    def allows(self, token: int) -> bool:
        """Whether it may come next."""
        self._one.fill_one(token)
        self._one.apply(self._sampler)
        return self._one.n_possible() == 1 and self._is_text(token)

    def restrict(self, candidates: Candidates) -> None:
        """Make what may not come next impossible, but for tokens that would break a character."""
        candidates.apply(self._sampler)

    def accept(self, token: int) -> None:
        """It has come; it must be one that is allowed. An end token changes nothing."""
        llama_cpp.llama_sampler_accept(self._sampler, token)
        self._decoder.decode(self._vocabulary.piece(token))

    def _is_text(self, token: int) -> bool:
        """Whether it leaves whole characters, or a beginning of one.

        llama.cpp takes any byte after the first of a character as part of it, a quotation mark too: the text would not
        be what its grammar saw.
        """
        before = self._decoder.getstate()
        try:
            self._decoder.decode(self._vocabulary.piece(token), token in self._vocabulary.ends)
        except UnicodeDecodeError:
            return False
        finally:
            self._decoder.setstate(before)
        return True

    def close(self) -> None:
        """Free the memory. Again is no harm."""
        if self._sampler is not None:
            llama_cpp.llama_sampler_free(self._sampler)
            self._sampler = None


def _depth(rules: str) -> int:
    steps = (1 if one == "(" else -1 for one in re.findall(r"[()]", _QUOTED.sub("", rules)))
    return max(accumulate(steps), default=0)


def grammar_rules(request: ChatRequest) -> str | None:
    """The rules that an answer follows, None = any text. Raises ChatRejected, naming response_format."""
    if request.grammar == "text":
        return None
    if request.json_schema is None:
        return str(llama_grammar.JSON_GBNF)
    n_characters = len(request.json_schema)
    if n_characters > _MOST_SCHEMA_CHARACTERS:
        message = (
            f"response_format: expected a schema of at most {_MOST_SCHEMA_CHARACTERS} characters, got {n_characters}"
        )
        raise ChatRejected(message, "response_format")
    try:
        return str(llama_grammar.json_schema_to_gbnf(request.json_schema))
    except (ValueError, LookupError, TypeError, AttributeError, AssertionError, RecursionError) as error:
        message = f"response_format: expected a JSON schema that llama.cpp can follow, got one with {error!r}"
        raise ChatRejected(message, "response_format") from error
