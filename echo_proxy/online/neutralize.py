"""How does stored text become data that no chat template, tool parser or fence of ours can take for its own?

A space breaks every marker: after each bracket of a control token or tool tag, before the colon of a role at the
beginning of a line. Nothing is deleted but characters that nobody sees. Markers are looked for in a folded copy of the
text: letter case, full-width and other look-alike brackets (NFKC, which some tokenizers apply, and the table below) and
invisible characters inside a marker make no difference. Doing it twice changes nothing: every marker begins with a
bracket or name that the space has parted from the rest.

What remains is what the words say: "ignore your instructions" is English, not a marker. The notice around examples, the
quarantine and the judge are there for that.
"""

import re
from collections.abc import Iterator

from echo_proxy.privacy.folding import INVISIBLE, Folding

_LOOK_ALIKES = {
    **dict.fromkeys("‹⟨〈〈ᐸ˂❬❮⧼", "<"),
    **dict.fromkeys("›⟩〉〉ᐳ˃❭❯⧽", ">"),
    **dict.fromkeys("ǀ∣│┃❘❙│", "|"),
    **dict.fromkeys("【〔⟦〚", "["),
    **dict.fromkeys("】〕⟧〛", "]"),
}
_ANGLED = re.compile(
    r"<(?:\|[^|<>\n]{1,64}\|>|</?[A-Z][A-Z_]{2,40}>>"
    r"|/?(?:s|bos|eos|pad|unk|sop|eop|eoh|eoa|eom|mask|start_of_turn|end_of_turn|end_of_utterance)>"
    r"|(?:extra_id|special|reserved|unused)_?\d{1,4}>|(?:begin|end)(?:ning)?_of_(?:sentence|text|turn)>"
    r"|/?(?:system|assistant|human|tools|system[-_]reminder|think(?:ing)?)>"
    r"|/?(?:tool|function)_(?:calls?|results?|response|responses|use|outputs?|code)"
    r"|/?(?:antml:|function=|parameter=|invoke(?=[\s/>])|parameter\s{1,4}name\b)"
    r"|(?:/\s{0,64})?examples?\b)",
    re.IGNORECASE,
)
"""Control tokens of chat templates, tags of tool calls (Hermes, Qwen, Llama, Anthropic), and our own fence."""
_SQUARE = re.compile(
    r"\[(?:/?(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS|TOOL_CONTENT|ARGS|CALL_ID|THINK|gMASK)"
    r"|UNUSED_TOKEN_\d{1,4})\]",
    re.IGNORECASE,
)
"""Those of Mistral, ChatGLM and InternLM."""
_ROLE = re.compile(
    r"^(?:[ \t>*#_-]{0,12}(?:[Hh]uman|HUMAN|[Aa]ssistant|ASSISTANT|User|USER|System|SYSTEM|AI)"
    r"|[ \t]{0,8}(?:Action Input|Observation)|user|system|developer|tool|ipython"
    r"|[ \t]{0,4}#{1,6}[ ]?(?i:instructions?|response|input|human|assistant|user|system))[*_]{0,3}(?P<gap>:)",
    re.MULTILINE,
)
"""Who speaks, as older templates, transcripts and Alpaca's headings write it. Words that are keys of YAML as well count
in lower case only where the line begins, so that nested ones stay."""
_HEADER = re.compile(r"^(?P<gap>user|assistant|system|tool|ipython)(?=[ \t]{0,8}\n)", re.MULTILINE)
"""What a chat header leaves when its control tokens are dropped: the role alone on a line."""
_TOOL_FENCE = re.compile(r"```(?P<gap>tool_(?:code|call|output))", re.IGNORECASE)
_BRACKETS = "<["
_folded = Folding(_LOOK_ALIKES)


def neutralize(text: str) -> str:
    """Stored text that can no longer be read as control token, tool call, another's turn or the end of our fence."""
    seen = INVISIBLE.sub("", text)
    folded = _folded(seen)
    gaps = sorted({folded.places[at] for at in _gaps(folded.text)})
    if not gaps:
        return seen
    return " ".join(seen[start:end] for start, end in zip([0, *gaps], [*gaps, len(seen)], strict=True))


def _gaps(folded: str) -> Iterator[int]:
    """Before which characters of the folded text a space must stand."""
    for pattern in (_ANGLED, _SQUARE):
        for match in pattern.finditer(folded):
            yield from (at + 1 for at in range(*match.span()) if folded[at] in _BRACKETS)
    for pattern in (_ROLE, _HEADER, _TOOL_FENCE):
        yield from (match.start("gap") for match in pattern.finditer(folded))
