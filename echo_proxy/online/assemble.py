"""What will the chosen arm be sent beside the caller's own words?"""

from collections.abc import Sequence

from echo_proxy.online.neutralize import neutralize
from echo_proxy.policy import PromptPolicy
from echo_proxy.types import Arm, Candidate, Message, Prompt, Selection


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
