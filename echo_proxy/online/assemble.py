"""What will the chosen arm be sent beside the caller's own words?"""

import re
from collections.abc import Sequence

from echo_proxy.policy import PromptPolicy
from echo_proxy.types import Arm, Candidate, Message, Prompt, Selection

_MARKER = re.compile(
    r"<[|｜][^|｜<>]{1,64}[|｜]>|\[/?(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS)\]"
    r"|<</?SYS>>|</?s>|<(?:bos|eos)>|<(?:start|end)_of_turn>",
    re.IGNORECASE,
)
"""Control tokens of common chat templates: in stored text they could close our turn and open another."""
_BRACKET = re.compile(r"[<\[]")
_FENCE = re.compile(r"</?\s*examples?\b[^>]*>", re.IGNORECASE)


def assemble(selection: Selection, arm: Arm, rules: PromptPolicy) -> Prompt:
    """The examples that the arm takes, as data in the form that the policy wants."""
    chosen = selection.first(arm.n_examples)
    if not chosen:
        return Prompt()
    shown = _in_order(chosen, selection.backbone(arm.n_examples), selection.familiar, rules)
    ids = tuple(candidate.example.id for candidate in shown)
    if rules.format == "block":
        return Prompt(block=_block(shown, rules.notice), example_ids=ids)
    return Prompt(turns=_turns(shown), system_notice=rules.notice, example_ids=ids)


def _in_order(
    chosen: Sequence[Candidate], backbone: frozenset[str], familiar: Sequence[str], rules: PromptPolicy
) -> Sequence[Candidate]:
    """What prompts have in common first, so that they begin alike; then the ones for this request.

    Source: [system][cluster backbone][few tailored examples][query] of https://arxiv.org/abs/2507.16217
    """
    shared = sorted((one for one in chosen if one.example.id in backbone), key=lambda one: one.example.id)
    tailored = [one for one in chosen if one.example.id not in backbone]
    if rules.order != "best_first":
        tailored.reverse()
    if rules.order == "stable":  # unknown ones stay last, the best of them nearest to the question
        places = {example_id: place for place, example_id in enumerate(familiar)}
        tailored.sort(key=lambda one: places.get(one.example.id, len(places)))
    return [*shared, *tailored]


def _turns(shown: Sequence[Candidate]) -> tuple[Message, ...]:
    return tuple(
        message
        for candidate in shown
        for message in (
            Message("user", neutralize(candidate.example.request)),
            Message("assistant", neutralize(candidate.example.response)),
        )
    )


def _block(shown: Sequence[Candidate], notice: str) -> str:
    examples = "\n".join(
        f"<example>\nQ: {neutralize(one.example.request)}\nA: {neutralize(one.example.response)}\n</example>"
        for one in shown
    )
    return (
        f"<examples>\n{notice}\n{examples}\n</examples>\n\n" if notice else f"<examples>\n{examples}\n</examples>\n\n"
    )


def neutralize(text: str) -> str:
    """Stored text that can no longer be read as a control token or as the end of our fence."""
    return _FENCE.sub(_open_up, _MARKER.sub(_open_up, text))


def _open_up(match: re.Match[str]) -> str:
    """Every bracket of it: a token may stand inside another, as in `<|[INST]|>`."""
    return _BRACKET.sub(r"\g<0> ", match.group())
