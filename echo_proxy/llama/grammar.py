"""Which tokens does an answer's form allow? JSON, or JSON that follows a schema, as a grammar of llama.cpp."""

import codecs
import re
from functools import lru_cache
from typing import Any

import llama_cpp
from llama_cpp import llama_grammar

from echo_proxy.engine.chat import ChatRejected, ChatRequest
from echo_proxy.llama.ambiguity import check_ambiguity
from echo_proxy.llama.candidates import Candidates
from echo_proxy.llama.library import forget_errors
from echo_proxy.llama.schema import SchemaRefused, read_schema
from echo_proxy.llama.schema_rules import schema_rules
from echo_proxy.llama.vocabulary import Vocabulary

_SURROGATE = re.compile(rb"\xed[\xa0-\xbf]")


class Grammar:
    """What may come next in one answer. Wrong tokens never reach llama.cpp, which would end the process."""

    def __init__(self, vocabulary: Vocabulary, rules: str) -> None:
        """Parse the rules, in GBNF with `root` as their start, as `grammar_rules` makes them.

        Others may take llama.cpp any time, and what it cannot parse it prints. Raises ChatRejected, naming
        response_format.
        """
        self._sampler: Any = llama_cpp.llama_sampler_init_grammar(vocabulary.pointer, rules.encode(), b"root")
        if not self._sampler:
            forget_errors()
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
            # Half a surrogate, which Python finds only with its third byte: then no token could come any more.
            return not _SURROGATE.match(self._decoder.getstate()[0])
        except UnicodeDecodeError:
            return False
        finally:
            self._decoder.setstate(before)

    def close(self) -> None:
        """Free the memory. Again is no harm."""
        if self._sampler is not None:
            llama_cpp.llama_sampler_free(self._sampler)
            self._sampler = None


def grammar_rules(request: ChatRequest) -> str | None:
    """The rules that an answer follows, None = any text.

    Cheap for a schema that was seen lately; may be called from any thread. Raises ChatRejected, naming response_format.
    """
    if request.grammar == "text":
        return None
    if request.json_schema is None:
        return str(llama_grammar.JSON_GBNF)
    try:
        return _rules_of_schema(request.json_schema)
    except SchemaRefused as error:
        raise ChatRejected(f"response_format: {error}", "response_format") from error
    except Exception as error:  # a schema is a program that a caller wrote
        message = f"response_format: expected a JSON schema that can be followed, got one with {type(error).__name__}"
        raise ChatRejected(message, "response_format") from error


@lru_cache(maxsize=64)
def _rules_of_schema(text: str) -> str:
    schema = read_schema(text)
    check_ambiguity(schema)
    return schema_rules(schema)
