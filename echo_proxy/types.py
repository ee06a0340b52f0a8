"""What travels between the steps: frozen records, in the order in which they appear on the path.

One long file on purpose: read from top to bottom it tells what a request goes through.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]
"""One-dimensional array of float64."""
Embedding = NDArray[np.float32]
"""Unit vector, shape (dimensions,), float32."""

Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]
"""Anything that json.dumps writes."""


# ------------------------------------------------------------------ receive


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a dialogue, text only."""

    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, as the proxy's key check established it."""

    key: str = "anonymous"
    """Hash of the virtual key, never the key itself."""
    team: str | None = None
    organization: str | None = None
    user: str | None = None
    is_admin: bool = False
    """The caller holds the master key or an admin role: may see every scope."""
    domain: str | None = None
    """What the caller's team works on, as the proxy's operator wrote it into the team's metadata (`echo_domain`)."""
    is_unkept: bool = False
    """Nothing of this key is kept as an example: so says the operator in the key's metadata (`echo_no_store`)."""
    key_domain: str | None = None
    """The same word in the key's own metadata, which users may write who make their own keys: believed where the policy
    says so, see `trust_key_domains`."""

    @property
    def person(self) -> str:
        """Hash of the user, who may have many keys; the key where no user is known."""
        if not self.user:
            return self.key
        return hashlib.sha256(f"user:{self.user}".encode("utf-8", "replace")).hexdigest()


@dataclass(frozen=True, slots=True)
class Call:
    """An incoming call in our words, before it is known whether it is ours."""

    call_id: str
    """Id given by the proxy; the same for all retries and fallbacks of one request."""
    model_group: str
    endpoint: str
    """Name of the endpoint: chat, responses or messages; anything else is passed through."""
    messages: tuple[Message, ...]
    """The dialogue with its system messages; empty when it holds something else than text."""
    caller: Caller
    obstacle: str | None = None
    """Why an example must not be prepended (tools, images, ...); None when nothing stands against it."""
    is_opted_out: bool = False
    """The caller asked to be left alone by header."""
    wants_json: bool = False
    """The caller asked for a JSON object."""
    is_streamed: bool = False
    rooms: Mapping[str, int] = field(default_factory=dict)
    """Context in tokens of the deployments of which it is known, by the names that arms use."""
    deadline_s: float | None = None
    """Seconds within which the caller wants its answer; None when it did not say."""
    preference: float | None = None
    """What the caller cares for, from 0 = cheap to 1 = good; None when it did not say."""
    priority: int | None = None
    """How urgent the caller says it is, [-100, 100]; None when it did not say."""
    parameters: str | None = ""
    """What else shapes the answer (temperature, token limit, ...), in one fixed form; None when it cannot be told."""
    is_unkept: bool = False
    """The caller wants nothing of it kept as an example."""
    wants_fresh: bool = False
    """A model shall answer it: the caller wants no stored answer, or something in it stands against one."""


@dataclass(frozen=True, slots=True)
class PassThrough:
    """The call is not ours: it goes on unchanged and is counted."""

    reason: str


@dataclass(frozen=True, slots=True)
class Request:
    """A call that Echo serves."""

    call_id: str
    decision_id: str
    """Time-ordered, not guessable; what the caller gives back with feedback."""
    model_group: str
    endpoint: str
    system: str
    dialogue: tuple[Message, ...]
    """User and assistant turns; the last one is the user's."""
    caller: Caller
    scope: str
    """Who may share examples with this request, e.g. `key:3f2a...`; a hard filter."""
    partition: str
    """Hash of system prompt and response format: only requests that agree in it share examples."""
    wants_json: bool
    is_streamed: bool
    received_at: float
    """Seconds since the epoch."""
    rooms: Mapping[str, int] = field(default_factory=dict)
    """As in Call."""
    deadline_s: float | None = None
    """As in Call."""
    preference: float | None = None
    """As in Call."""
    conversation: str = ""
    """Hash of scope, system prompt and first turn: the same in all turns of a conversation."""
    priority: int | None = None
    """As in Call."""
    wider: tuple[str, ...] = ()
    """Wider scopes whose examples it may use beside those of its own, e.g. `team:red`."""
    answer_key: str = ""
    """Hash of all that shapes its answer beside the last turn: system prompt, earlier turns, model group, format and
    parameters. Only requests that agree in it may be given each other's answers; empty = with nobody's."""
    is_unkept: bool = False
    """As in Call, and in Caller."""
    wants_fresh: bool = False
    """As in Call."""
    is_deterministic: bool = False
    """Its parameters leave nothing to chance: asked again, a model should say the same."""

    @property
    def text(self) -> str:
        """What the user asks in this turn."""
        return self.dialogue[-1].content

    @property
    def n_user_turns(self) -> int:
        """User turns in the dialogue, this one included; what an assistant says before the first of them counts as an
        answer to one that is not shown."""
        n_asked = sum(message.role == "user" for message in self.dialogue)
        return n_asked + (self.dialogue[0].role != "user")


# ------------------------------------------------------------------ retrieve, select


@dataclass(frozen=True, slots=True)
class Observation:
    """Whether a stored answer was right for another request."""

    distance: float
    """Cosine distance of that request to the example's, [0, 2]."""
    is_correct: bool
    at: float
    """Seconds since the epoch."""
    witness: str = ""
    """Hash of the person whose request it was; empty in observations from before it was noted."""


@dataclass(frozen=True, slots=True)
class Replayed:
    """A replay of an example: its request was answered again, and the best answer was kept."""

    at: float
    """Seconds since the epoch."""
    teacher: str
    """Deployment that was asked."""
    n_answers: int
    """How many answers it gave."""
    is_replaced: bool
    """One of them was better than the stored one."""
    verdict: float
    """Of the best one against the stored one, [0, 1]; 0.5 = equal."""
    replaced: str = ""
    """First 16 hex digits of the SHA-256 of the answer that was given up; empty when none was."""


Origin = Literal["traffic", "shared", "promoted", "coverage", "import"]
"""How an example came to be: an answer to a caller; a copy for a wider scope; a stored answer that a judge found right
for another request; asked for by upkeep; read from a file."""

EXAMPLE_OVERHEAD_BYTES = 2560
"""What an example takes beside its texts and vectors: names of fields, tags, numbers, entries of the index.
Measured with Redis 8.2.3 and its search module 2.10.5: 2,559 bytes each at 100,000 examples of 384 dimensions in a flat
index, in 50 scopes of 64 characters."""


@dataclass(frozen=True, slots=True)
class Example:
    """A stored request-response pair."""

    id: str
    scope: str
    partition: str
    request: str
    response: str
    vector: Embedding
    """Unit vector of the request, shape (dimensions,)."""
    teacher: str
    """Deployment that gave the response."""
    decision_id: str
    """Decision in which the response was given."""
    writer: str
    """Hash of the key under which it was written."""
    quality: float
    """Estimated quality of the response, [0, 1]."""
    n_tokens: int
    """Tokens of request and response together, estimated."""
    created_at: float
    """Seconds since the epoch."""
    expires_at: float
    """Seconds since the epoch; absolute, so that use does not prolong a bad example's life."""
    uses: float = 0.0
    """Summed evidence weight of the answers that were given with it."""
    gain: float = 0.0
    """Summed weight * quality of those answers, in [0, uses]."""
    system: str = ""
    """System prompt under which it was asked, so that it can be asked again."""
    wants_json: bool = False
    """Its answer had to be a JSON object."""
    n_turns: int = 1
    """User turns of its dialogue; only the answer to a single one can be asked for again."""
    answer_key: str = ""
    """As in Request; empty = the answer is never served by itself."""
    reader: str = ""
    """The only key that it serves while it is in quarantine; empty = everybody in its scope."""
    confirmed_by: tuple[str, ...] = ()
    """Others whose teachers gave the same answer: of each the hash of his key, behind it that of his user where one is
    known, and in scopes wider than a team that of his team, with blanks between."""
    origin: Origin = "traffic"
    version: int = 1
    """One more with every change; a change that was made for another version is refused."""
    offloads: float = 0.0
    """Successful offloads with it, fading by the hour as the policy says, as of `counted_at`."""
    regret: float = 0.0
    """Summed (1 - quality) * normalised cost of the answers that were given with it, fading likewise: what a better
    answer could bring (G of IC-Cache, arXiv 2501.12689)."""
    counted_at: float = 0.0
    """When offloads and regret were faded last, seconds since the epoch."""
    history: tuple[Replayed, ...] = ()
    """Its replays, oldest first."""
    observations: tuple[Observation, ...] = ()
    """What is known of its answer as an answer to other requests, oldest first."""
    person: str = ""
    """Who is behind the writer's key, as in Caller; empty = no user is known, and the key counts."""

    @property
    def n_bytes(self) -> int:
        """What it takes in the store: texts, the vector and its copy in the index, and the rest."""
        texts = sum(len(text.encode("utf-8", "replace")) for text in (self.request, self.response, self.system))
        return texts + 2 * 4 * len(self.vector) + EXAMPLE_OVERHEAD_BYTES


class Names(StrEnum):
    """Whether an example speaks of the same names and numbers as the request."""

    NONE = "none"
    """The request holds no name and no number."""
    HELD = "held"
    """All of them stand in the example."""
    NUMBERS = "numbers"
    """All names stand in it, a number does not: perhaps the same task with another value."""
    MISSING = "missing"
    """A name does not: a sign that the example is about something else."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """An example found by retrieval."""

    example: Example
    distance: float
    """Cosine distance to the request, [0, 2]."""
    names: Names = Names.NONE
    utility: float = 0.0
    """Probability that an answer given with it is good, [0, 1]."""


@dataclass(frozen=True, slots=True)
class Rejection:
    """A candidate that was not chosen."""

    candidate: Candidate
    reason: str


@dataclass(frozen=True, slots=True)
class Trial:
    """An example that could have been shown, and whether it was: what the utility model learns from."""

    example_id: str
    schema: str
    """Names and order of the features."""
    features: tuple[float, ...]
    """What the utility model saw of request and example."""
    propensity: float
    """P(it was among the chosen), (0, 1]; 1 when nothing was left to chance."""
    is_chosen: bool
    """False when it was left out by chance, to learn what it is worth."""


@dataclass(frozen=True, slots=True)
class Selection:
    """The examples chosen for a prompt, most useful first."""

    chosen: tuple[Candidate, ...] = ()
    rejected: tuple[Rejection, ...] = ()
    trials: tuple[Trial, ...] = ()
    """The chosen ones, and those left out by chance, as the utility model saw them."""
    threshold: float = 0.0
    """Least utility that was asked for."""
    familiar: tuple[str, ...] = ()
    """Ids of chosen ones that the scope and partition uses again and again, the most used first."""
    n_backbone: int = 0
    """So many of the familiar ones, the most used, stand first in every prompt that has room for more."""

    def backbone(self, n: int) -> frozenset[str]:
        """Ids of the shared ones among the n examples of an arm; one place at least is left for the most useful."""
        return frozenset(self.familiar[: max(min(self.n_backbone, n - 1), 0)])

    def first(self, n: int) -> tuple[Candidate, ...]:
        """The n examples that an arm takes, most useful first: its backbone, and the most useful of the others."""
        shared = self.backbone(n)
        others = [one.example.id for one in self.chosen if one.example.id not in shared]
        taken = shared.union(others[: n - len(shared)])
        return tuple(one for one in self.chosen if one.example.id in taken)


# ------------------------------------------------------------------ route


@dataclass(frozen=True, slots=True)
class Arm:
    """A deployment together with a number of examples."""

    name: str
    deployment: str
    """`model_info.id` or `litellm_params.model` in the LiteLLM config."""
    n_examples: int
    is_teacher: bool = False
    """Its answers may become examples."""
    prior_reward: float | None = None
    """Expected reward before any evidence, [0, 1]; None takes the bandit's default."""


@dataclass(frozen=True, slots=True)
class ArmSums:
    """Additive evidence about one arm in one segment."""

    weight: float = 0.0
    """Sum of evidence weights."""
    reward_sum: float = 0.0
    """Sum of weight * reward."""
    reward_sq_sum: float = 0.0
    """Sum of weight * reward^2."""


@dataclass(frozen=True, slots=True)
class Estimates:
    """What a bandit sees of its arms, in one fixed order."""

    weights: Vector
    """Evidence weight per arm, prior included, shape (n_arms,), at least 0."""
    means: Vector
    """Expected reward per arm, prior included, shape (n_arms,)."""
    deviations: Vector
    """Standard deviation of what is believed of each mean, shape (n_arms,), at least 0."""


@dataclass(frozen=True, slots=True)
class ArmKey:
    """Where a piece of evidence belongs."""

    arm: str
    segment: str
    """Band of requests that share their averages, e.g. `utility[0.6,0.8) names=held`."""


@dataclass(frozen=True, slots=True)
class Load:
    """How busy a deployment is, over all workers."""

    in_flight: float = 0.0
    """Requests that it is answering."""
    waiting: float = 0.0
    """Requests beyond those that its own process has to do, where it tells: of callers that Echo does not serve."""
    latency_s: float = 0.0
    """Moving average of its answers' time; 0 when there were none of late."""
    starts_per_s: float = 0.0
    """Moving average of how many requests it is given in a second."""
    held: float = 0.0
    """Requests that its own process answers or keeps waiting, whoever asked, where it tells."""
    wait_s: float = 0.0
    """How long a request that comes now will probably wait in its queue, where it tells."""
    service_s: float = 0.0
    """Moving average of the time that an answer takes once it has left the queue, where it tells; else 0."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """What an arm's answer will probably cost and take."""

    cost_usd: float
    latency_s: float
    """At the load of now."""
    weight: float
    """How many answers it is drawn from; 0 = a guess."""
    service_s: float = 0.0
    """At the least load that was seen; 0 when unknown."""
    spread: float = 0.0
    """Standard deviation of log(latency / forecast); 0 = taken at its word."""


@dataclass(frozen=True, slots=True)
class Conditions:
    """What beside the request bears on a decision."""

    loads: Mapping[str, Load] = field(default_factory=dict)
    """By deployment."""
    forecasts: Mapping[str, Forecast] = field(default_factory=dict)
    """By arm."""
    budget_price: float = 0.0
    """How much reward a unit of normalised cost must bring, [0, 5]; 0 while spending is on target."""
    last_deployment: str = ""
    """Deployment that answered the conversation's last turn; empty when there was none."""
    deadline_s: float | None = None
    """Time to the caller's or the policy's deadline; None when there is none."""
    preference: float | None = None
    """As in Call."""


@dataclass(frozen=True, slots=True)
class Context:
    """What the bandit sees of a request and its selection: features of about [-1, 1]."""

    schema: str
    """Version and dimensions of the features; evidence of another schema is not mixed with it."""
    values: tuple[float, ...]
    """Shape (n_features,). The one that speaks of an arm's own load is 0 here."""
    text: tuple[float, ...] = ()
    """Finer features of the request's words, for the regression on single requests."""


@dataclass(frozen=True, slots=True)
class Situation:
    """All that a decision among feasible arms is made from, so that it can be made again from the log."""

    segment: str
    """Band of requests that share their averages."""
    context: Context
    vector: Embedding | None
    """Of the request."""
    utility: float
    """Of the best chosen example, [0, 1]; 0 when none is chosen."""
    n_chosen: int
    conditions: Conditions = Conditions()


@dataclass(frozen=True, slots=True)
class Adjustment:
    """What a line of policy takes from the arms' expected rewards."""

    name: str
    """load, deadline, budget, preference, switch or drift."""
    penalties: tuple[float, ...]
    """Per arm, in reward units; below 0 something is added."""
    why: str
    """In words, with the numbers that led to it."""


@dataclass(frozen=True, slots=True)
class Decision:
    """Which arm serves a request, and how likely that choice was."""

    arm: Arm
    propensity: float
    """P(arm | context) when it was drawn, (0, 1]; off-policy evaluation needs it."""
    segment: str
    arms: tuple[str, ...]
    """Names of the arms that could be drawn, in the order of `pmf`."""
    pmf: tuple[float, ...]
    means: tuple[float, ...]
    """Expected reward per arm, prior included. As estimated: a line may lead a little beyond [0, 1], and surprises are
    measured from what was really expected."""
    weights: tuple[float, ...]
    """Evidence weight per arm, prior included."""
    adjustments: tuple[str, ...]
    """What was done to the probabilities beside the bandit, in words."""
    seed: int
    """Seeds a numpy Generator that draws the same arm from `pmf` again."""
    deviations: tuple[float, ...] = ()
    """Standard deviation of what is believed of each mean, per arm."""
    taken: tuple[Adjustment, ...] = ()
    """What was taken from the means before the bandit saw them."""
    situation: Situation | None = None
    """What it was made from."""
    invites_feedback: bool = False
    """The arms were close: what the caller thinks of the answer would teach much."""


# ------------------------------------------------------------------ assemble


@dataclass(frozen=True, slots=True)
class Prompt:
    """What is added to the caller's messages; the caller's own words stay as they are."""

    turns: tuple[Message, ...] = ()
    """User and assistant turns to stand after the system message and before the dialogue."""
    system_notice: str = ""
    """A sentence of ours to follow the system message; never stored text."""
    block: str = ""
    """Fenced examples to stand before the first user message."""
    example_ids: tuple[str, ...] = ()

    @property
    def n_examples(self) -> int:
        """Number of examples in it."""
        return len(self.example_ids)


STORED = "echo-stored"
"""What gives answers that were given before goes by this name where a deployment is named."""


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    """The stored answer that could be given to a request, and whether it is."""

    example: Example
    distance: float
    """Cosine distance to the request, [0, 2]."""
    explore_chance: float
    """P(a model is asked all the same), [0, 1]; 1 = nothing is proven yet."""
    is_served: bool
    """It is given to the caller; else a model answers, and what it says tells whether this one was right."""
    why: str
    """In words, with the numbers that led to it."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that was decided before the call."""

    request: Request
    policy: str
    vector: Embedding | None
    selection: Selection
    decision: Decision
    prompt: Prompt
    bypasses: tuple[str, ...]
    """Steps that failed and were left out, e.g. `store_unavailable`."""
    is_shadow: bool
    """Decided and logged, not acted upon."""
    plan_s: float
    """Seconds that planning took."""
    answer: StoredAnswer | None = None
    """None when no stored answer comes into question."""


@dataclass(frozen=True, slots=True)
class Service:
    """What a local engine is told of a request beside its words."""

    scope: str = ""
    """Hash of the scope: its queue is fair between scopes, and it shares prefixes within one."""
    priority: int = 0
    """[-100, 100]; higher is served first."""
    deadline_s: float | None = None
    """Seconds from now to the deadline, above 0; None = none."""
    hints: tuple[str, ...] = ()
    """Answers that the new one may resemble, the likeliest first. They make it quicker, never different."""


# ------------------------------------------------------------------ measure


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try of one deployment within a request."""

    deployment_id: str
    deployment: str
    """The name by which arms know it; the id when none does."""
    decision: Decision | None
    """None when the deployment was chosen by LiteLLM (fallback group, shadow mode)."""
    error: str | None = None
    """Class name of the error that ended it; None when it served."""
    is_blamed: bool = False
    """The error is the deployment's fault, not the caller's."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a request, as measured."""

    deployment_id: str
    """Deployment that served; empty when none did."""
    text: str
    finish_reason: str
    is_whole: bool
    """Finished by itself and, when streamed, read to its end by the caller."""
    prompt_tokens: int
    completion_tokens: int
    cost_usd: float
    time_to_first_token_s: float | None
    latency_s: float
    attempts: tuple[Attempt, ...]
    error: str | None = None
    may_keep: bool = True
    """False when the text must not become an example."""


# ------------------------------------------------------------------ judge, reward, learn


@dataclass(frozen=True, slots=True)
class Feedback:
    """What a caller thinks of an answer."""

    score: float
    """[0, 1]."""
    comment: str = ""
    given_at: float = 0.0


@dataclass(frozen=True, slots=True)
class Quality:
    """Estimated quality of an answer."""

    estimate: float
    """[0, 1]."""
    weight: float
    """How much the estimate counts as evidence, (0, 1]; 1 for explicit feedback."""
    signals: Mapping[str, float]
    """Each signal that took part, [0, 1]."""
    deviation: float = 0.0
    """Standard deviation of the estimate, [0, 0.5]."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the bandit learned from one attempt."""

    key: ArmKey
    weight: float
    reward: float
    """[0, 1]."""
    is_served: bool = True
    """The attempt that answered; False for a failed one, whose evidence later feedback leaves alone."""


@dataclass(frozen=True, slots=True)
class Increment:
    """A change of an arm's sums; fields may be negative when late feedback replaces an early guess."""

    key: ArmKey
    sums: ArmSums


@dataclass(frozen=True, slots=True)
class Use:
    """What an answer says of the examples in its prompt beside its quality."""

    is_offload: bool
    """A cheaper arm answered by choice."""
    normalized_cost: float
    """Of the answer, [0, 1]."""


@dataclass(frozen=True, slots=True)
class SeenAnswer:
    """An observation on its way to its example."""

    example_id: str
    version: int
    """Of the example whose answer was compared."""
    observation: Observation


@dataclass(frozen=True, slots=True)
class ExampleIncrement:
    """A change of an example's outcome counts."""

    example_id: str
    uses: float
    gain: float
    offloads: float = 0.0
    """Fades from the time of the decision on, as does the next."""
    regret: float = 0.0


# ------------------------------------------------------------------ log


@dataclass(frozen=True, slots=True)
class DecisionRecord:
    """A decision with its outcome, as kept in the store."""

    id: str
    policy: str
    scope: str
    created_at: float
    expires_at: float
    revision: int
    """1 when settled, one more with every later change; a write with an old revision is refused."""
    caller: str
    """Hash of the key that asked."""
    arm: str
    """Arm that was chosen (last, when there were several attempts)."""
    is_acted: bool
    """The arm answered; False in shadow mode and when LiteLLM fell back to something else: then cost, latency and
    reward are not the arm's, and the log is no evidence about it."""
    segment: str
    propensity: float
    served_by: str
    """Deployment id that answered; empty when none did."""
    n_examples: int
    """Examples that stood in the prompt which was answered."""
    prompt_tokens: int
    completion_tokens: int
    cost_usd: float
    latency_s: float
    is_whole: bool
    quality: float
    quality_weight: float
    """How much the quality counted as evidence, (0, 1]."""
    reward: float
    """What the answer was worth, less when it was late. Evidence leaves lateness out: the deadline step foresees it."""
    evidence: tuple[Evidence, ...]
    """What the arms have learned from it so far."""
    example_ids: tuple[str, ...]
    """Examples that stood in the prompt."""
    admitted_id: str
    """Example that holds this answer; empty when none does."""
    feedback: float | None
    explanation: Mapping[str, Json]
    """Candidates, utilities, probabilities, adjustments, attempts, signals: for a reader."""
    signals: Mapping[str, float] = field(default_factory=dict)
    """Each quality signal that has come in so far, [0, 1]."""
    deadline_s: float | None = None
    """Seconds that the answer had; None when there was no deadline."""


@dataclass(frozen=True, slots=True)
class Lesson:
    """What a settled decision teaches, without any text."""

    decision_id: str
    at: float
    """When the decision was made, seconds since the epoch."""
    arms: tuple[str, ...]
    """Arms that could be drawn."""
    pmf: tuple[float, ...]
    arm: str
    """Arm that was drawn."""
    is_acted: bool
    """As in DecisionRecord: only then cost, latency, quality and reward are the arm's."""
    means: tuple[float, ...]
    """Expected reward per arm when it was drawn."""
    situation: Situation
    evidence: tuple[Evidence, ...]
    """What the arms learn from it, failed attempts too."""
    trials: tuple[Trial, ...]
    quality: float
    quality_weight: float
    reward: float
    cost_usd: float
    latency_s: float
    time_to_first_token_s: float | None
    prompt_tokens: int
    completion_tokens: int
    threshold: float = 0.0
    """Least utility that was asked of examples."""
    caller: str = ""
    """Hash of the key that asked; empty in lessons from before it was noted."""
    circle: str = ""
    """Hash of scope and partition: requests that differ in it never share an example; empty as above."""


@dataclass(frozen=True, slots=True)
class Amendment:
    """What replaces a lesson's outcome when more becomes known, such as feedback."""

    decision_id: str
    revision: int
    """A lower one than is known already changes nothing."""
    evidence: tuple[Evidence, ...]
    quality: float
    quality_weight: float
    reward: float


@dataclass(frozen=True, slots=True)
class News:
    """A lesson that was not known in this form."""

    lesson: Lesson
    before: Lesson | None
    """What was known of the decision until now; None when it is new."""


@dataclass(frozen=True, slots=True)
class LessonPage:
    """Some lessons and amendments in the order in which they were settled."""

    lessons: tuple[Lesson | Amendment, ...]
    cursor: str
    """Where the next page begins."""


@dataclass(frozen=True, slots=True)
class Settlement:
    """All that one outcome changes; applied by the store at once or not at all."""

    record: DecisionRecord
    increments: tuple[Increment, ...]
    example_increments: tuple[ExampleIncrement, ...]
    lesson: Lesson | Amendment | None = None
    """None when there is nothing to learn but the increments."""


# ------------------------------------------------------------------ store


@dataclass(frozen=True, slots=True)
class Turn:
    """Who answered a conversation's last turn."""

    conversation: str
    """As in Request."""
    deployment: str
    ttl_s: float
    """It is forgotten after so many seconds."""


@dataclass(frozen=True, slots=True)
class Query:
    """What to look for in the store."""

    vector: Embedding
    scope: str
    partition: str
    k: int
    max_distance: float
    """Cosine distance, [0, 2]."""
    now: float
    """Seconds since the epoch; expired examples are not found."""
    reader: str | None
    """Hash of the key that asks: of examples in quarantine it finds its own. None = all, for admission and upkeep."""
    wider: tuple[str, ...] = ()
    """Scopes beside `scope` whose examples are found too."""


@dataclass(frozen=True, slots=True)
class Which:
    """Which examples are meant; None = any."""

    scope: str | None = None
    writer: str | None = None
    teacher: str | None = None
    origin: Origin | None = None
    created_after: float | None = None
    """Seconds since the epoch; exclusive, as is the next."""
    created_before: float | None = None
    in_quarantine: bool | None = None

    def holds(self, example: Example) -> bool:
        """Whether an example is meant."""
        named = (self.scope, self.writer, self.teacher, self.origin)
        return (
            all(
                want is None or want == got
                for want, got in zip(
                    named, (example.scope, example.writer, example.teacher, example.origin), strict=True
                )
            )
            and (self.created_after is None or example.created_at > self.created_after)
            and (self.created_before is None or example.created_at < self.created_before)
            and self.in_quarantine in (None, bool(example.reader))
        )


@dataclass(frozen=True, slots=True)
class ExamplePage:
    """Some examples, in no order that means anything."""

    examples: tuple[Example, ...]
    cursor: str
    """Where the next page begins; empty = there is none. One that is written meanwhile may be missed, or come twice."""


@dataclass(frozen=True, slots=True)
class Holdings:
    """What eviction and replay must know of examples, as columns in one order, without texts and vectors."""

    ids: tuple[str, ...]
    writers: tuple[str, ...]
    """Of each example, as are all that follow; equal ones are one object."""
    versions: NDArray[np.int64]
    """Shape (n,), as are all that follow."""
    n_bytes: NDArray[np.int64]
    offloads: Vector
    """Faded to now, as is the next."""
    regret: Vector
    quality: Vector
    uses: Vector
    gain: Vector
    created_at: Vector
    """Seconds since the epoch, as is the next."""
    expires_at: Vector
    n_replays: NDArray[np.int64]
    replayed_at: Vector
    """0 = never."""


@dataclass(frozen=True, slots=True)
class HoldingsPage:
    """Some of them."""

    holdings: Holdings
    cursor: str
    """As in ExamplePage."""


@dataclass(frozen=True, slots=True)
class Held:
    """How much a writer has in the store."""

    n_examples: int
    n_bytes: int


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to be the only one who does something, for a while."""

    name: str
    holder: str
    fence: int
    """Grows with every lease of that name: writes under an older one are refused."""


@dataclass(frozen=True, slots=True)
class UpkeepRun:
    """What one round of upkeep did, for a reader."""

    id: str
    """Time-ordered."""
    started_at: float
    """Seconds since the epoch, as is the next."""
    ended_at: float
    holder: str
    """Who did it."""
    ending: str
    """done, budget, busy, lease_lost, or the name of an error."""
    cost_usd: float
    report: Mapping[str, Json]
    """What was planned, done and gained, by kind of work."""


@dataclass(frozen=True, slots=True)
class StoreStatus:
    """Whether a store can serve."""

    is_ready: bool
    engine: str
    """e.g. `Redis 8.2.3 + search 2.10.5`."""
    n_examples: int
    detail: str = ""
    """Why it is not ready."""


# ------------------------------------------------------------------ local models


@dataclass(frozen=True, slots=True)
class LocalReport:
    """How a local model is, as one worker sees it."""

    name: str
    process: str
    """Where it lives; a crash ends all models of a process."""
    deployments: tuple[str, ...]
    """Names by which arms know it."""
    phase: str
    """unloaded, starting, loading, ready or failed."""
    n_waiting: int
    """Requests in its queue, from all workers."""
    n_running: int
    """Requests that it answers."""
    wait_s: float
    """How long a request that comes now will probably wait."""
    service_s: float
    """Moving average of the time from leaving the queue to the end of the answer."""
    n_restarts: int
    """Starts of its process after that had ended by itself."""
    n_loads: int
    """How often its process has loaded it."""
    counts: Mapping[str, float]
    """Sums since its process started, such as `prompt_tokens`."""
    error: str | None
    """Why it failed, or how its process ended last time."""


@dataclass(frozen=True, slots=True)
class Backlog:
    """Examples whose vectors are still those of another embedding model."""

    examples: tuple[Example, ...]
    """The next ones to embed anew; none are left when it is empty."""
    n_left: int
    """How many there are in all, these included."""
    n_expired: int
    """Expired ones that were dropped while looking."""
