"""The one place that speaks llama-cpp-python. Imported by the model's own process only, never by the proxy."""

import ctypes
import random
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import llama_cpp
from jinja2 import TemplateError
from llama_cpp import llama_chat_format, llama_grammar

from echo_proxy.errors import LocalModelError
from echo_proxy.engine.answer import AnswerText
from echo_proxy.engine.chat import ChatRejected, ChatRequest, Sampling
from echo_proxy.local.engine import Cancelled, Finished, Piece
from echo_proxy.local.options import LocalModelOptions, default_context

_SPLIT_MODES = {"none": 0, "layer": 1, "row": 2}
_CACHE_TYPES = {"f32": 0, "f16": 1, "q4_0": 2, "q4_1": 3, "q5_0": 6, "q5_1": 7, "q8_0": 8, "bf16": 30}
"""ggml's numbers."""
_CONTROL = int(llama_cpp.LLAMA_TOKEN_ATTR_CONTROL)
_PIECE_BYTES = 64


class LlamaModel:
    """A GGUF file in memory. One sequence; consecutive prompts reuse their common beginning."""

    def __init__(self, options: LocalModelOptions) -> None:
        """Load it; takes as long as reading the file. Raises LocalModelError."""
        self._options = options
        self.n_ctx = options.n_ctx or default_context(Path(options.path))
        """Tokens of context. llama.cpp may round it up, but llama-cpp-python's own arrays are not larger than this."""
        self._llama: Any = _load(options, self.n_ctx)
        self._vocab: Any = self._llama._model.vocab
        self._pieces: dict[int, bytes] = {}
        self._is_cancelled: Callable[[], bool] = lambda: False
        # `generate` reads a prompt through this method: looking here frees the model in the middle of a long one.
        self._eval = self._llama.eval
        self._llama.eval = self._eval_in_steps
        self._chat_handler: Any = _chat_handler(self._llama, options)
        self._control = _control_texts(self._vocab, self._llama.n_vocab())
        self._try_chat_format()

    def answer(self, request: ChatRequest, is_cancelled: Callable[[], bool]) -> Iterator[Piece | Finished]:
        """See Model.answer."""
        prompt, own_stops = self._prompt(request.messages)
        room = self.n_ctx - len(prompt)
        if room <= 0:
            raise ChatRejected(
                f"messages: expected fewer than {self.n_ctx} tokens, the context of this model, got {len(prompt)}",
                "messages",
                "context_length_exceeded",
            )
        max_tokens = min(request.max_tokens or room, room)
        text = AnswerText((*request.stop, *own_stops))
        reason: Literal["stop", "length"] = "length"
        n_tokens = 0
        for token in self._tokens(prompt, request, is_cancelled):
            if llama_cpp.llama_vocab_is_eog(self._vocab, token):
                reason = "stop"
                break
            n_tokens += 1
            released = text.feed(self._piece(token))
            if released and request.is_streamed:
                yield Piece(released)
            if text.is_stopped:
                reason = "stop"
                break
            if n_tokens >= max_tokens:
                break
        rest = text.finish()
        if rest and request.is_streamed:
            yield Piece(rest)
        yield Finished(text.text, reason, len(prompt), n_tokens)

    def _tokens(self, prompt: Sequence[int], request: ChatRequest, is_cancelled: Callable[[], bool]) -> Iterator[int]:
        """Drawn tokens, without end. Raises Cancelled."""
        sampling = request.sampling
        self._is_cancelled = is_cancelled
        self._llama.set_seed(self._seed(sampling))
        for token in self._llama.generate(
            list(prompt),
            top_k=sampling.top_k,
            top_p=sampling.top_p,
            min_p=sampling.min_p,
            typical_p=sampling.typical_p,
            temp=sampling.temperature,
            repeat_penalty=sampling.repeat_penalty,
            frequency_penalty=sampling.frequency_penalty,
            presence_penalty=sampling.presence_penalty,
            logits_processor=self._bias(sampling),
            grammar=self._grammar(request),
        ):
            if is_cancelled():
                raise Cancelled
            yield int(token)

    def _seed(self, sampling: Sampling) -> int:
        for seed in (sampling.seed, self._options.seed):
            if seed is not None:
                return seed
        return random.getrandbits(32)

    def _eval_in_steps(self, tokens: Sequence[int]) -> None:
        step = self._llama.n_batch
        for start in range(0, len(tokens), step):
            if self._is_cancelled():
                raise Cancelled
            self._eval(tokens[start : start + step])

    def _piece(self, token: int) -> bytes:
        """A token's bytes. llama-cpp-python's own method has room for 32 only, and some tokens are longer."""
        piece = self._pieces.get(token)
        if piece is None:
            buffer = ctypes.create_string_buffer(_PIECE_BYTES)
            size = llama_cpp.llama_token_to_piece(self._vocab, token, buffer, _PIECE_BYTES, 0, False)
            if size < 0:
                buffer = ctypes.create_string_buffer(-size)
                size = llama_cpp.llama_token_to_piece(self._vocab, token, buffer, -size, 0, False)
            piece = self._pieces[token] = buffer.raw[:size]
        return piece

    # ------------------------------------------------------------------ prompt

    def _prompt(self, messages: Sequence[Mapping[str, str]]) -> tuple[list[int], list[str]]:
        """The prompt's tokens, and the stop texts of the chat format. Raises ChatRejected."""
        try:
            self._chat_handler(llama=_PromptCatcher(self._llama), messages=[self._defused(one) for one in messages])
        except _PromptIsReady as ready:
            return ready.tokens, ready.stop
        except (ValueError, TypeError, TemplateError) as error:  # ValueError: a template's own raise_exception
            raise ChatRejected(f"messages: refused by the model's chat template: {error}", "messages") from error
        raise RuntimeError(f"expected chat format {self._llama.chat_format!r} to make a prompt, it made none")

    def _defused(self, message: Mapping[str, str]) -> dict[str, str]:
        """The message, in which `<|im_end|>` and the like are plain text.

        The prompt is tokenised as a whole: without this, a user's text or an example could end its own turn and begin
        one of the system. An invisible space after the first character keeps the token from forming.
        """
        content = self._control.sub(lambda found: f"{found[0][0]}\u200b{found[0][1:]}", message["content"])
        return {**message, "content": content}

    def _try_chat_format(self) -> None:
        """Fail at the start rather than at every request. Raises LocalModelError."""
        try:
            self._prompt([{"role": "user", "content": "hi"}])
        except ChatRejected:
            pass  # a template may insist on more than this one message
        except (RuntimeError, AttributeError, LookupError, TypeError, AssertionError) as error:
            name = self._llama.chat_format
            message = f"chat_format: expected one that makes a prompt of text messages, got {name!r}: {error}"
            raise LocalModelError(message) from error

    # ------------------------------------------------------------------ constraints

    def _grammar(self, request: ChatRequest) -> Any:
        if request.grammar == "text":
            return None
        rules = llama_grammar.JSON_GBNF if request.json_schema is None else _rules(request.json_schema)
        # llama-cpp-python does not look at the result, and a null sampler kills the process.
        sampler = llama_cpp.llama_sampler_init_grammar(self._vocab, rules.encode(), b"root")
        if not sampler:
            raise ChatRejected("response_format: the schema makes no grammar that llama.cpp accepts", "response_format")
        llama_cpp.llama_sampler_free(sampler)
        return llama_grammar.LlamaGrammar.from_string(rules, verbose=False)

    def _bias(self, sampling: Sampling) -> Any:
        if not sampling.logit_bias:
            return None
        n_vocab = int(self._llama.n_vocab())
        for token, _ in sampling.logit_bias:
            if not 0 <= token < n_vocab:
                raise ChatRejected(f"logit_bias: expected tokens in [0, {n_vocab}), got {token}", "logit_bias")

        def add(_: Any, scores: Any) -> Any:
            for token, bias in sampling.logit_bias:
                scores[token] += bias
            return scores

        return llama_cpp.LogitsProcessorList([add])


def _load(options: LocalModelOptions, n_ctx: int) -> Any:
    if options.n_gpu_layers != 0 and not llama_cpp.llama_supports_gpu_offload():
        raise LocalModelError(
            "n_gpu_layers: expected 0, because this llama-cpp-python was built without GPU support, "
            f"got {options.n_gpu_layers}; `echo-proxy doctor` shows how to build it with CUDA"
        )
    try:
        return llama_cpp.Llama(
            model_path=options.path,
            n_ctx=n_ctx,
            n_threads=options.n_threads,
            n_threads_batch=options.n_threads_batch,
            n_batch=options.n_batch,
            n_ubatch=min(options.n_batch, 512),
            n_gpu_layers=options.n_gpu_layers,
            split_mode=_SPLIT_MODES[options.split_mode],
            main_gpu=options.main_gpu,
            tensor_split=list(options.tensor_split) if options.tensor_split else None,
            flash_attn=options.flash_attn,
            type_k=_CACHE_TYPES[options.type_k],
            type_v=_CACHE_TYPES[options.type_v],
            use_mmap=options.use_mmap,
            use_mlock=options.use_mlock,
            chat_format=options.chat_format,
            verbose=False,
        )
    except (ValueError, RuntimeError, AssertionError, MemoryError) as error:
        raise LocalModelError(f"llama.cpp could not load {options.path}: {error}") from error


def _chat_handler(llama: Any, options: LocalModelOptions) -> Any:
    """What makes prompts of messages. Raises LocalModelError."""
    if options.chat_format is None and "tokenizer.chat_template" not in llama.metadata:
        # llama-cpp-python would take Llama 2's format, which is wrong for nearly all models of today.
        raise LocalModelError(f"chat_format: expected one, because {options.path} brings no chat template; got nothing")
    known = llama._chat_handlers.get(llama.chat_format)
    if known is not None:
        return known
    try:
        return llama_chat_format.get_chat_completion_handler(llama.chat_format)
    except llama_chat_format.LlamaChatCompletionHandlerNotFoundException as error:
        raise LocalModelError(f"chat_format: {error}") from error


def _control_texts(vocab: Any, n_vocab: int) -> re.Pattern[str]:
    """Finds the texts of control tokens, such as `<|im_end|>`."""
    tokens = [t for t in range(n_vocab) if llama_cpp.llama_vocab_get_attr(vocab, t) & _CONTROL]
    texts = [(llama_cpp.llama_vocab_get_text(vocab, token) or b"").decode("utf-8", "ignore") for token in tokens]
    longest_first = sorted((text for text in texts if len(text) > 1), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")


def _rules(schema: str) -> str:
    try:
        return str(llama_grammar.json_schema_to_gbnf(schema))
    except (ValueError, LookupError, TypeError, AttributeError, AssertionError, RecursionError) as error:
        message = f"response_format: expected a JSON schema that llama.cpp can follow, got one with {error!r}"
        raise ChatRejected(message, "response_format") from error


class _PromptIsReady(Exception):
    def __init__(self, tokens: list[int], stop: list[str]) -> None:
        super().__init__("the prompt is ready")
        self.tokens = tokens
        self.stop = stop


class _PromptCatcher:
    """Stands in for a Llama before a chat handler, which formats and tokenises and would then generate.

    So all chat formats work, and generating stays ours.
    """

    verbose = False

    def __init__(self, llama: Any) -> None:
        self._llama = llama

    def tokenize(self, text: bytes, add_bos: bool = True, special: bool = False) -> list[int]:
        """As the real one."""
        return list(self._llama.tokenize(text, add_bos=add_bos, special=special))

    def create_completion(self, prompt: list[int], stop: Sequence[str] | None = None, **_: Any) -> None:
        """Ends the handler's work. Raises _PromptIsReady."""
        tokens = list(prompt) or [int(self._llama.token_bos())]
        raise _PromptIsReady(tokens, [one for one in stop or () if one])
