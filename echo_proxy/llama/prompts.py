"""How is a dialogue written for this model? By the template in its GGUF, or by one of llama-cpp-python's formats."""

from collections.abc import Mapping, Sequence
from typing import Any

from jinja2 import TemplateError
from llama_cpp import llama_chat_format

from echo_proxy.engine.chat import ChatRejected
from echo_proxy.engine.runner import PromptTokens
from echo_proxy.errors import LocalModelError
from echo_proxy.llama.vocabulary import Vocabulary, whole

_TEMPLATE = "tokenizer.chat_template"
_OWN = "chat_template."


class ChatFormat:
    """Makes prompts of messages. May be used from any thread."""

    def __init__(self, vocabulary: Vocabulary, metadata: Mapping[str, str], name: str | None, path: str) -> None:
        """Find the format and try it.

        Args:
            vocabulary: the model's.
            metadata: what its GGUF says of itself.
            name: of a format of llama-cpp-python, `chat_template.tool_use` for a template of that name in the GGUF,
                None for the GGUF's default template.
            path: of the GGUF, for messages.

        Raises:
            LocalModelError: there is no such format, or it makes no prompts of texts.
        """
        self._vocabulary = vocabulary
        self._catcher = _PromptCatcher(vocabulary)
        self.name = name or _default_name(metadata, path)
        self._handler = _chat_handler(self.name, metadata, vocabulary)
        self._try()

    def prompt(self, messages: Sequence[Mapping[str, str]]) -> PromptTokens:
        """See Language.prompt."""
        texts = [{**one, "content": self._vocabulary.defuse(whole(one["content"]))} for one in messages]
        try:
            self._handler(llama=self._catcher, messages=texts)
        except _PromptIsReady as ready:
            return ready.prompt
        except Exception as error:  # a template is a program: it may divide by zero, or recurse without end
            raise ChatRejected(f"messages: refused by the model's chat template: {error}", "messages") from error
        raise RuntimeError(f"expected chat format {self.name!r} to make a prompt, it made none")

    def _try(self) -> None:
        """Fail at the start rather than at every request. Raises LocalModelError."""
        try:
            self.prompt([{"role": "user", "content": "hi"}])
        except (RuntimeError, ChatRejected) as error:
            if isinstance(error.__cause__, ValueError | TypeError | TemplateError):
                return  # a template may insist on more than this one message
            message = f"chat_format: expected one that makes a prompt of text messages, got {self.name!r}: {error}"
            raise LocalModelError(message) from error


def _default_name(metadata: Mapping[str, str], path: str) -> str:
    if _TEMPLATE not in metadata:
        # llama-cpp-python would take Llama 2's format, which is wrong for nearly all models of today.
        raise LocalModelError(f"chat_format: expected one, because {path} brings no chat template; got nothing")
    return llama_chat_format.guess_chat_format_from_gguf_metadata(dict(metadata)) or f"{_OWN}default"


def _chat_handler(name: str, metadata: Mapping[str, str], vocabulary: Vocabulary) -> Any:
    key = f"tokenizer.{name}" if name != f"{_OWN}default" else _TEMPLATE
    try:
        if name.startswith(_OWN) and key in metadata:
            return llama_chat_format.Jinja2ChatFormatter(
                template=metadata[key],
                eos_token=vocabulary.text(vocabulary.eos),
                bos_token=vocabulary.text(vocabulary.bos),
            ).to_chat_handler()
        return llama_chat_format.get_chat_completion_handler(name)
    except llama_chat_format.LlamaChatCompletionHandlerNotFoundException as error:
        raise LocalModelError(f"chat_format: {error}") from error
    except TemplateError as error:
        raise LocalModelError(
            f"chat_format: expected a template that jinja2 can read, got {name!r}: {error}"
        ) from error


class _PromptIsReady(Exception):
    def __init__(self, prompt: PromptTokens) -> None:
        super().__init__("the prompt is ready")
        self.prompt = prompt


class _PromptCatcher:
    """Stands in for llama-cpp-python's Llama before a chat handler, which formats, tokenises and would then generate.

    So all chat formats work, and generating stays ours.
    """

    verbose = False

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary

    def tokenize(self, text: bytes, add_bos: bool = True, special: bool = False) -> list[int]:
        """As Llama.tokenize."""
        return self._vocabulary.tokenize(text.decode("utf-8"), adds_special=add_bos, knows_control=special)

    def create_completion(self, prompt: str | list[int], stop: Sequence[str] | None = None, **_: Any) -> None:
        """Ends the handler's work; some tokenise, some do not. Raises _PromptIsReady."""
        bos = self._vocabulary.bos
        if isinstance(prompt, str):
            prompt = self._vocabulary.tokenize(prompt, adds_special=True, knows_control=True)
        tokens = tuple(prompt) or (() if bos is None else (bos,))
        raise _PromptIsReady(PromptTokens(tokens, tuple(one for one in stop or () if one)))
