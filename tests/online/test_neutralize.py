import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from echo_proxy.online.neutralize import neutralize
from tests.poisoned import MARKED, POISONED, UNMARKED

PREFIX = "ant" + "ml:"
TOKENS = (
    *("<|im_start|>", "<|im_end|>", "<|eot_id|>", "<|endoftext|>", "<|start_header_id|>", "<|begin_of_text|>"),
    *("[INST]", "[/INST]", "<<SYS>>", "<</SYS>>", "<s>", "</s>", "<start_of_turn>", "<end_of_turn>", "<bos>", "<eos>"),
    *(
        "<｜User｜>",
        "<｜Assistant｜>",
        "<｜end▁of▁sentence｜>",
        "[SYSTEM_PROMPT]",
        "[/SYSTEM_PROMPT]",
        "[TOOL_RESULTS]",
    ),
    *("[TOOL_CALLS]", "[gMASK]", "<sop>", "<think>", "</think>", "<extra_id_0>", "<<HUMAN_CONVERSATION_START>>"),
    *("<tool_call>", "</tool_call>", "<tool_response>", "<function_call>", "<function_calls>", "</function_calls>"),
    *("<function_results>", "<invoke name=", "</invoke>", "<parameter name=", "<function=", "<parameter=", "<tools>"),
    *(f"<{PREFIX}invoke", f"</{PREFIX}parameter", "<|python_tag|>", "<system>", "</assistant>", "<system-reminder>"),
    *("```tool_code", "```tool_outputs"),
)
FENCES = ("<example>", "</example>", "<examples>", "</examples>", "</ examples >", "<EXAMPLE id=1>", "</example\n>")
ROLES = (
    *("Human:", "Assistant:", "System:", "USER:", "ASSISTANT:", "User:", "AI:", "assistant:", "system:", "user:"),
    *("### Instruction:", "### Response:", "## Human:", "**System:**", "> Human:", "Observation:", "Action Input:"),
)
HIDDEN = ("\u200b", "\u200d", "\ufeff", "\u00ad", "\u2060", "\u202e", "\x00", "\ufe0f", "\U000e0041")
pieces = st.sampled_from(
    [
        *TOKENS,
        *FENCES,
        *ROLES,
        *HIDDEN,
        *("<|", "|>", "<", ">", "[", "]", "/", "|", " ", "\n", "\r", "\u2028", "a", "example", "INST", "s", "im_start"),
        *("user", "assistant\n", "＜", "｜", "＞", "：", "ｓ", "⟨", ":", "#", "`"),
    ]
)
hostile = st.lists(pieces, max_size=14).map("".join)


def as_a_lenient_reader_sees_it(text: str) -> str:
    """Compatible forms made one, nothing invisible, in lower case: what a careless tokenizer may make of it."""
    shown = "".join(one for one in unicodedata.normalize("NFKC", text) if not is_invisible(one))
    return re.sub("[\r\x0b\x0c\x85\u2028\u2029]", "\n", shown.translate(str.maketrans("⟨⟩", "<>"))).lower()


def is_invisible(one: str) -> bool:
    """Of no width, or a control character that ends no line."""
    if one in "\t\n\r\x0b\x0c\x85":
        return False
    return unicodedata.category(one) in ("Cf", "Cc") or "\ufe00" <= one <= "\ufe0f"


def markers_in(text: str) -> list[str]:
    """What a template, a tool parser or our own fence would take for its own."""
    shown = as_a_lenient_reader_sees_it(text)
    tokens = [one for one in TOKENS if as_a_lenient_reader_sees_it(one) in shown]
    fences = re.findall(r"</?examples?\b[^>]*>", shown)
    headings = re.findall(r"^[#> *]{0,8}(?:human|assistant|instruction|response)[*]*:", shown, re.MULTILINE)
    headers = re.findall(r"^(?:user|assistant|system)[ \t]{0,8}\n", shown, re.MULTILINE)
    return [*tokens, *fences, *headings, *headers]


@pytest.mark.parametrize("token", [*TOKENS, *FENCES])
@pytest.mark.parametrize("frame", ["{}", "<|{}|>", "<example {}>", "[{}]", "<{}", "{}{}"])
def test_no_control_token_and_no_fence_survives(token: str, frame: str) -> None:
    """Nor one that hides in another; letter case does not matter."""
    text = frame.replace("{}", token)

    assert token.lower() not in neutralize(text).lower()
    assert token.lower() not in neutralize(text.upper()).lower()


@pytest.mark.parametrize("role", ROLES)
def test_no_role_begins_a_line(role: str) -> None:
    """Whatever ends the line before; the words stay."""
    made = [neutralize(f"Done.{end}{role} more") for end in ("\n", "\r", "\n\n", "\u2028", "\x85", "\x0c")]

    assert [role in one for one in made] == [False] * 6
    assert {one.replace(" ", "")[6:].lstrip() for one in made} == {f"{role} more".replace(" ", "")}


@pytest.mark.parametrize("hidden", HIDDEN)
@pytest.mark.parametrize("token", ["<|im_start|>", "</examples>", "[INST]", "<tool_call>"])
def test_what_nobody_sees_hides_no_marker(hidden: str, token: str) -> None:
    """Wherever in it it stands."""
    split = [token[:at] + hidden + token[at:] for at in range(1, len(token))]

    assert [markers_in(neutralize(one)) for one in split] == [[]] * len(split)


@given(hostile)
def test_whatever_is_pieced_together_is_neutral(text: str) -> None:
    """Breaking one marker never makes another."""
    assert markers_in(neutralize(text)) == []


@given(hostile)
def test_twice_is_once(text: str) -> None:
    """What is neutral stays as it is."""
    once = neutralize(text)

    assert neutralize(once) == once


@given(st.text())
def test_twice_is_once_for_any_text(text: str) -> None:
    """All of Unicode, surrogates too."""
    once = neutralize(text)

    assert neutralize(once) == once


@given(hostile)
def test_only_space_is_added_and_only_the_invisible_goes(text: str) -> None:
    """The stored words stay readable."""

    def words(of: str) -> str:
        return "".join(one for one in of if one != " " and not is_invisible(one))

    assert words(neutralize(text)) == words(text)


@given(st.text(alphabet=st.characters(exclude_characters="<[:`", exclude_categories=("Cc", "Cf", "Mn", "Ps", "Sm"))))
def test_ordinary_text_stays_as_it_is(text: str) -> None:
    """Without a bracket, a colon or an end of a line nothing can be a marker."""
    assert neutralize(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "if a < b and b > c: x[0] = <div> <|> || [1, 2] # for example > that",
        "std::cout << x << y >> z; <<EOF\ncat\nEOF",
        "<b>User: Maria</b> said: the Assistant: role is fun. The system: a set of parts.",
        "services:\n  web:\n    user: 1000\n    system: true\n",
        "Natalia sold 48/2 = <<48/2=24>>24 clips.",
        "## Response times\n\nThe user waits.\n- user\n- assistant role\n",
        "```python\nprint('Human: hi')\n```",
        '{"tool_calls": [{"function": {"name": "send"}}], "role": "user"}',
        '<user id="1"><name>x</name></user> <toolbar> <invoker> <section>',
        "می‌خواهم 👨‍👩‍👧 naïve ﬁne 日本語：テスト",
        'printf "User: %s\\n" "$USER"',
    ],
)
def test_code_markup_and_other_scripts_stay_as_they_are(text: str) -> None:
    """Brackets alone are not suspicious, nor is a role inside a line, nor what scripts and emoji need."""
    assert neutralize(text) == text


@pytest.mark.parametrize(("name", "request_", "response"), MARKED, ids=[one[0] for one in MARKED])
def test_poison_with_a_marker_is_defused(name: str, request_: str, response: str) -> None:
    """Of every family that has markers."""
    made = neutralize(response)

    assert made != response
    assert (markers_in(made), neutralize(made)) == ([], made)


@pytest.mark.parametrize(("name", "request_", "response"), UNMARKED, ids=[one[0] for one in UNMARKED])
def test_words_are_not_censored(name: str, request_: str, response: str) -> None:
    """Orders in English are left to quarantine and judge: whoever asks about injections gets to see one."""
    assert (neutralize(request_), neutralize(response)) == (request_, response)


def test_the_adversarial_set_is_large_and_has_no_doubles() -> None:
    """At least sixty attacks, each with a name of its own."""
    assert (len(POISONED) >= 60, len({name for name, _, _ in POISONED})) == (True, len(POISONED))
