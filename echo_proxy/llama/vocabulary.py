"""Which numbers does a model have for which pieces of text?"""

import ctypes
import hashlib
import re
from collections.abc import Iterable

import llama_cpp

from echo_proxy.llama.library import Weights

_CONTROL = int(llama_cpp.LLAMA_TOKEN_ATTR_CONTROL)
_PIECE_BYTES = 64
_MOST_OVERLAPS = 8
"""Texts of control tokens that may overlap in one place; bounded, because a file may name its tokens as it likes."""


class Vocabulary:
    """A model's tokens. May be used from any thread."""

    def __init__(self, weights: Weights) -> None:
        """Reads all tokens once."""
        self._weights = weights  # keeps them in memory
        vocab = self.pointer = weights.vocab
        """llama.cpp's."""
        self.n_vocab = int(llama_cpp.llama_vocab_n_tokens(vocab))
        self._texts = [llama_cpp.llama_vocab_get_text(vocab, token) or b"" for token in range(self.n_vocab)]
        attributes = [int(llama_cpp.llama_vocab_get_attr(vocab, token)) for token in range(self.n_vocab)]
        self.ends = frozenset(t for t in range(self.n_vocab) if llama_cpp.llama_vocab_is_eog(vocab, t))
        """Tokens that end an answer."""
        self.eos = _or_none(int(llama_cpp.llama_vocab_eos(vocab)))
        """What ends a text; None when there is nothing of the kind."""
        self.end = self.eos if self.eos in self.ends else min(self.ends, default=None)
        """One of `ends`; None when there are none."""
        self.bos = _or_none(int(llama_cpp.llama_vocab_bos(vocab)))
        """What begins a text; None when there is nothing of the kind."""
        self.fingerprint = _fingerprint(int(llama_cpp.llama_vocab_type(vocab)), self._texts, attributes)
        self._control = _alternatives(
            self.text(token) for token, attribute in enumerate(attributes) if attribute & _CONTROL
        )
        self._pieces: dict[int, bytes] = {}

    def text(self, token: int | None) -> str:
        """The name of a token, such as `<|im_end|>`; empty for None."""
        return "" if token is None else self._texts[token].decode("utf-8", "ignore")

    def piece(self, token: int) -> bytes:
        """See Language.piece."""
        piece = self._pieces.get(token)
        if piece is None:
            piece = self._pieces[token] = self._read_piece(token)
        return piece

    def tokenize(self, text: str, *, adds_special: bool, knows_control: bool) -> list[int]:
        """The text's tokens.

        Args:
            text: half surrogates become question marks.
            adds_special: whether the model's usual beginning is put before it.
            knows_control: whether the names of control tokens become these tokens.
        """
        raw = whole(text).encode()
        size = len(raw) + 8
        while True:
            tokens = (ctypes.c_int32 * size)()
            n_tokens = llama_cpp.llama_tokenize(self.pointer, raw, len(raw), tokens, size, adds_special, knows_control)
            if n_tokens >= 0:
                return tokens[:n_tokens]
            size = -n_tokens

    def defuse(self, text: str) -> str:
        """The text, in which `<|im_end|>` and the like stay plain text when control tokens are known.

        A prompt is tokenised as a whole: without this, a user's text or an example could end its own turn and begin
        one of the system. An invisible space after the first character keeps the token from forming.
        """
        for _ in range(_MOST_OVERLAPS):
            text, n_found = self._control.subn(lambda found: f"{found[0][0]}\u200b{found[0][1:]}", text)
            if not n_found:
                break
        return text

    def _read_piece(self, token: int) -> bytes:
        buffer = ctypes.create_string_buffer(_PIECE_BYTES)
        size = llama_cpp.llama_token_to_piece(self.pointer, token, buffer, _PIECE_BYTES, 0, False)
        if size < 0:
            buffer = ctypes.create_string_buffer(-size)
            size = llama_cpp.llama_token_to_piece(self.pointer, token, buffer, -size, 0, False)
        return buffer.raw[:size]


def whole(text: str) -> str:
    """The text with question marks for half surrogates, which JSON can bring and UTF-8 cannot."""
    return text.encode("utf-8", "replace").decode()


def _or_none(token: int) -> int | None:
    return None if token < 0 else token


def _alternatives(texts: Iterable[str]) -> re.Pattern[str]:
    """Finds any of these texts; single characters are left alone, they cannot be broken."""
    longest_first = sorted((text for text in texts if len(text) > 1), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")


def _fingerprint(kind: int, texts: list[bytes], attributes: list[int]) -> str:
    digest = hashlib.sha256(str(kind).encode())
    for text, attribute in zip(texts, attributes, strict=True):
        digest.update(b"%d %d " % (len(text), attribute))
        digest.update(text)
    return digest.hexdigest()[:32]
