"""May a stored answer be given to this request at all, and which of the stored ones?

The words below are English, and they err on the side of asking a model: a request that is refused here costs a model's
answer, one that is let through by mistake costs a wrong one. In other languages `answers.volatile` must name them.
"""

import re
from functools import lru_cache

from echo_proxy.policy_keeping import AnswersPolicy
from echo_proxy.types import Candidate, Names, Request

_TIME = (
    r"current(?! (?:working )?(?:directory|folder|dir|path|line|shell|branch))|"
    r"now|nowadays|today|today's|tonight|tonight's|yesterday|tomorrow|currently|latest|newest|recent|recently|"
    r"lately|upcoming|ongoing|at the moment|right now|these days|so far|up to date|up-to-date|as of|"
    r"(?:this|last|next|past|coming|previous) (?:second|minute|hour|morning|afternoon|evening|night|day|week|weekend|"
    r"month|quarter|season|summer|winter|spring|autumn|fall|year|decade|monday|tuesday|wednesday|thursday|friday|"
    r"saturday|sunday|time)s?|"
    r"\d+ (?:seconds?|minutes?|hours?|days?|weeks?|months?|years?) (?:ago|from now)|"
    r"(?:what|which) (?:time|day|date|year|month) is|what is the (?:time|date)|what's the (?:time|date)|"
    r"in the news|breaking news|headlines?|news|weather|forecast|traffic|stock price|share price|exchange rate|"
    r"price of|how much (?:is|are|does|do) .{1,60} cost|scores?|standings|who won|is winning|still alive|"
    r"president|prime minister|ceo|chancellor|champion|release date|version of"
)
_PERSON = (
    r"my|mine|myself|our|ours|ourselves|us|me|we|we're|we've|we'll|i'm|i am|i've|i have|i had|i was|i'd|i got|i live|"
    r"i work|i feel|i think|i want|i need|i like|i love|i hate|i just|i made|i lost|i paid|i ordered|i received"
)
_POLITE = re.compile(r"\b(tell|give|show|teach|help|let|find|write) (?:me|us)\b")
"""Says nothing of the asker."""
_CREATIVE = (
    r"(?:what|who|any\w+|some\w+) else|"
    r"another|again|random|randomly|different|differently|one more|few more|some more|more of|other (?:ideas?|ones?"
    r"|options?|examples?)|surprise|brainstorm|poems?|haikus?|limericks?|lyrics|songs?|jokes?|riddles?|short story|"
    r"stories|tell a story|write a story|creative|creatively|imagine|role-?play|pick (?:a|one)|choose (?:a|one)|"
    r"roll (?:a|the) dice|flip a coin|invent|make up|come up with|generate (?:a|some) (?:name|title|idea)s?"
)
_CONVERSATION = (
    r"above|previous|previously|earlier|before that|you said|you say|you mentioned|you told|you wrote|you gave|"
    r"your (?:last|first|second|previous|earlier|answer|reply|response|suggestion|example)|that one|this one|"
    r"the (?:former|latter|same|first one|second one|last one)|as before|go on|continue|keep going|shorter|longer|"
    r"rephrase|rewrite|reword|elaborate|more detail|more details|what about|how about|and then|are you sure|really|"
    r"try again|fix it|fix that|explain that|translate that|summari[sz]e (?:it|that|this)"
)
_DATE = (
    r"\b\d{4}-\d{2}-\d{2}\b|\b\d{1,2}[./]\d{1,2}[./]\d{2,4}\b|"
    r"\b(?:jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sep(?:t(?:ember)?)?|oct(?:ober)?|"
    r"nov(?:ember)?|dec(?:ember)?)\.? \d{1,4}\b"
)
_FIGURE = re.compile(r"\w*\d\w*(?:[.,]\d+)*")
_NEGATION = re.compile(r"\b(?:not|no|never|without|except|excluding|don't|doesn't|isn't|cannot|can't|won't|non)\b")
_READ = 4_000
"""Characters of a request that are looked at. Longer ones are never answered from the store: their vector tells only of
a part of them."""
_NAMED = frozenset({Names.NONE, Names.HELD})


def obstacle(request: Request, rules: AnswersPolicy) -> str | None:
    """Why no stored answer may be given to a request; None when one may."""
    text = plain(request.text)
    if not request.answer_key:
        return "no_key"
    if len(text) > _READ:
        return "long"
    text = _POLITE.sub(r"\1", text)
    found = ((name, pattern.search(text)) for name, pattern in _patterns(rules.personal, rules.volatile).items())
    return next((f"{name}: {match.group()}" for name, match in found if match), None)


def may_answer(request: Request, candidate: Candidate, rules: AnswersPolicy) -> bool:
    """Whether a candidate's answer may be given to a request that has no obstacle: all that shapes it is the same, it
    is near and young enough, and speaks of the same names, numbers and negations.

    Of nl2bash's nearest neighbours within 0.05, 17 % have the same command where names and numbers agree, 3 % where
    they do not.
    """
    example = candidate.example
    return (
        example.answer_key == request.answer_key
        and candidate.distance <= rules.max_distance
        and request.received_at - example.created_at <= rules.max_age_s
        and candidate.names in _NAMED
        and _marks(request.text) == _marks(example.request)
    )


def plain(text: str) -> str:
    """Small letters, straight apostrophes, single spaces."""
    return " ".join(text[: _READ + 1].lower().replace("\u2019", "'").split())


def _marks(text: str) -> tuple[frozenset[str], frozenset[str]]:
    """Figures and negations: an embedding hardly sees them, and each turns an answer round."""
    read = plain(text)
    return frozenset(_FIGURE.findall(read)), frozenset(_NEGATION.findall(read))


@lru_cache(maxsize=64)
def _patterns(is_personal: bool, volatile: tuple[str, ...]) -> dict[str, re.Pattern[str]]:
    own = "|".join(re.escape(plain(word)) for word in volatile)
    words = {
        "time": _TIME,
        **({} if is_personal else {"person": _PERSON}),
        "creative": _CREATIVE,
        "conversation": _CONVERSATION,
        **({"volatile": own} if own else {}),
    }
    made = {name: re.compile(rf"(?<!\w)(?:{pattern})(?!\w)") for name, pattern in words.items()}
    return {**made, "date": re.compile(_DATE)}
