"""What may an operator decide about what is kept, shared, served again, improved and forgotten?

Sections of a policy file, in the order in which an example meets them.
"""

import re
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from echo_proxy.policy_base import Distance, Seconds, Share, Strict

PrivacyAction = Literal["redact", "reject", "keep"]
SECRET_KINDS = ("api_key", "token", "password", "private_key")
"""Kinds of findings that `privacy.secrets` decides about."""
PERSONAL_KINDS = ("email", "phone", "card", "iban", "ip_address", "national_id")
"""Kinds that patterns find, and that `privacy.personal` decides about; Presidio adds its own, e.g. `person`."""
_KIND = re.compile(r"[a-z][a-z_]{1,30}")
Breadth = Literal["key", "user", "team", "organization", "domain", "public"]


class PresidioPolicy(Strict):
    """Microsoft Presidio looks for personal data too (extra `privacy`)."""

    language: str = Field(default="en", pattern=r"^[a-z]{2}$")
    """Of the texts."""
    model: str | None = None
    """spaCy model that recognises names and places, e.g. `en_core_web_lg`; it must be installed. null = patterns and
    context words alone, which find no names."""
    min_score: Share = 0.5
    """Presidio's confidence from which on a finding counts."""
    entities: tuple[str, ...] | None = Field(default=None, strict=False)
    """Presidio's names of what is looked for, e.g. PERSON; null = all that it knows of the language but DATE_TIME and
    URL, which are seldom personal, and EMAIL_ADDRESS, IP_ADDRESS, CREDIT_CARD and IBAN_CODE, which patterns find."""


class PrivacyPolicy(Strict):
    """What becomes of secrets and personal data in texts that would be kept. Applied before anything is stored."""

    secrets: PrivacyAction = "reject"
    """Keys, tokens, passwords, private keys. reject = the answer is not kept; redact = `[api_key 1]` stands in their
    place, the same for the same value in request and answer."""
    personal: PrivacyAction = "redact"
    """E-mail and IP addresses, phone and card numbers, IBANs, national identity numbers, and what Presidio finds."""
    kinds: dict[str, PrivacyAction] = Field(default_factory=dict)
    """The same for single kinds, by name, e.g. `phone: keep`: api_key, token, password, private_key, email, phone,
    card, iban, ip_address, national_id, and with Presidio its names in lower case, e.g. `person`."""
    presidio: PresidioPolicy | None = None
    """null = patterns alone."""

    @model_validator(mode="after")
    def _known_kinds(self) -> Self:
        known = (*SECRET_KINDS, *PERSONAL_KINDS)
        unknown = [kind for kind in self.kinds if kind not in known]
        if self.presidio is None and unknown:
            raise ValueError(f"kinds must be among {', '.join(known)} without presidio, got {unknown[0]}")
        odd = [kind for kind in unknown if not _KIND.fullmatch(kind)]
        if odd:
            raise ValueError(f"kinds must be lower-case names such as phone or person, got {odd[0]!r}")
        return self


class ExcludePolicy(Strict):
    """Whose answers are never kept."""

    keys: tuple[str, ...] = Field(default=(), strict=False)
    """Hashes of virtual keys, as decisions show them (`caller`)."""
    teams: tuple[str, ...] = Field(default=(), strict=False)
    """Team ids."""
    domains: tuple[str, ...] = Field(default=(), strict=False)
    """Domains (`echo_domain` in the metadata of teams; that of keys keeps out whether or not it is believed)."""
    models: tuple[str, ...] = Field(default=(), strict=False)
    """Deployments, by the names that arms use."""


class QuarantinePolicy(Strict):
    """In a scope of many (not `key`, not `user`), an example serves only its own writer until others have confirmed it.
    Protects against poisoned examples (arXiv 2601.23088)."""

    confirmations: int = Field(default=2, ge=1, le=100)
    """So many others must have been given the same answer, word by word, to the same request by a teacher. All keys of
    a user count once, a key without a user by itself, and in the scopes organization, domain and public all keys of a
    team once. One user, or key without a user, more than that confirm themselves."""
    judge: bool = True
    """Whether a judge's approval is enough, too: where another writer has sent the same request and was answered in
    other words, the waiting answer is compared with a fresh one of the teacher, within the rate and the budget of
    `judge.sampled`. Two users are then enough for poison that stands in the request itself."""


class AdmissionPolicy(Strict):
    """Which answers become examples."""

    enabled: bool = True
    """Whether answers are kept at all."""
    exclude: ExcludePolicy = ExcludePolicy()
    """Whose are not."""
    allow_client_no_store: bool = True
    """Whether the header `x-echo-no-store: true` keeps an answer out."""
    ttl_s: Seconds = 30 * 86400.0
    """An example expires so long after it was written, however often it is used."""
    duplicate_distance: Distance = 0.005
    """An answer to a request nearer than this to a stored one (same scope) is the same request: the better stays."""
    max_tokens: int = Field(default=2000, ge=1)
    """Longer request-response pairs are not kept."""
    max_turns: int = Field(default=1, ge=1, le=100)
    """Dialogues with more user turns are not kept: their answer may hang on what was said before."""
    boilerplate: tuple[Annotated[str, Field(min_length=3)], ...] = Field(
        default=(
            "how can i help you today",
            "how can i assist you today",
            "please provide more information",
            "please provide more details",
            "could you please provide",
            "could you please clarify",
            "i don't have enough information",
            "i don't have access to real-time",
            "as of my last update",
            "as of my knowledge cutoff",
        ),
        strict=False,
    )
    """A short answer (up to 60 words) that holds one of these (case ignored) says nothing worth keeping."""
    min_quality: Share = 0.5
    """Least quality, less `deviations` times its standard deviation. An answer about which nobody has said anything has
    `judge.prior` and that of a coin of such chance: 0.9 - 0.3 = 0.6. With a prior of 0.8 that is 0.4: lower this then,
    or only answers that agree with other examples are kept."""
    deviations: float = Field(default=1.0, ge=0, le=5)
    """See min_quality."""
    min_feedback: Share = 0.5
    """Feedback below it forgets the example that the answer became."""
    writer_share: float = Field(default=0.5, gt=0, le=1)
    """Share of `upkeep.max_bytes` that one writer may fill: beyond it new answers are refused. Upkeep cuts a writer
    above 90 % of its share down to 80 %, least value per byte first; without upkeep only expiry makes room again."""
    quarantine: QuarantinePolicy | None = QuarantinePolicy()
    """null = an example serves its whole scope at once. Where a scope is one key it changes nothing."""
    privacy: PrivacyPolicy = PrivacyPolicy()
    """Secrets and personal data."""


class SharingPolicy(Strict):
    """Wider scopes that are read beside `scope`, and filled with copies of what is kept there. A copy holds no personal
    data and no secret, whatever `admission.privacy` says of the original, and passes the quarantine of its scope."""

    scopes: tuple[Breadth, ...] = Field(min_length=1, strict=False)
    """Each wider than `scope`. A caller without such an identity neither reads nor fills it."""


class AnswersPolicy(Strict):
    """The answer tier: a stored answer is given to the caller itself, without asking a model, where observations of
    that example prove that it is right for such requests (vCache, arXiv 2502.03771), or where the same words came
    before (`identical`). Never for tools, nor for requests that depend on time or person; only where system prompt,
    earlier turns, model group and parameters are the same."""

    max_error: float = Field(default=0.01, gt=0, le=0.5)
    """Bound on the share of requests that are given a wrong stored answer, where it takes proof (see `identical`)."""
    min_observations: int = Field(default=6, ge=6, le=64)
    """An example whose answer was compared less often is never served (with `estimate: example`), but to the same words
    again, see `identical`. Where more than one person shares a scope, the newest two comparisons of each count: it
    takes three people at least."""
    identical: Literal["off", "deterministic", "all"] = "deterministic"
    """Whether a request that was asked word for word before, parameters too, is given that answer without any
    observations: `min_observations` and `max_error` are not asked then, because the model would only say the same
    again. It counts as that model's answer, right or wrong. deterministic = only with temperature 0 or a seed. The
    answer must be a teacher's own, or one that a judge found right for these words. In 2 of 100 cases a model is asked
    all the same; once that shows another answer, or bad feedback comes, the usual proof decides. off = it always
    does."""
    max_distance: Distance = 0.25
    """Farther examples are not looked at."""
    max_age_s: Seconds = 7 * 86400.0
    """Older answers are not served. They remain examples."""
    volatile: tuple[Annotated[str, Field(min_length=2)], ...] = Field(default=(), strict=False)
    """Words that make a request depend on time or person, beside those that are always known (today, my, ...)."""
    personal: bool = False
    """Whether requests that speak of the asker (my, I have, we, ...) may be answered from the store all the same: where
    no answer can know anything of the asker, as in a help desk for all."""
    estimate: Literal["example", "pooled"] = "example"
    """What proves an answer. example = observations of that example alone: the bound holds for each of them. pooled =
    how often answers of its kind (distance, record so far) were wrong in its scope: new examples are served too, the
    bound holds together for those of the scope's requests that take proof, and each worker must first see some labels
    of its own, of three people at least where more than one shares the scope. Kinds that are wrong more than 3 times as
    often as the bound says are not served at all."""
    single_flight: Literal["off", "deterministic", "all"] = "deterministic"
    """Whether requests that are identical, parameters too, and come while the first is being answered wait for its
    answer. deterministic = only with temperature 0 or a seed."""
    near_miss_rate: Share = 0.1
    """Share of the requests that a smaller model answered while a stored answer was near, but not proven, of which the
    teacher, and where need be the judge, is asked beside the path whether the stored one would have done (Krites, arXiv
    2602.13165). If so, it is kept under the words of that request too. It takes a line `judge.sampled`, whose budget it
    spends."""


class ReplayPolicy(Strict):
    """The teacher answers requests of doubtful examples again, and the best answer is kept (IC-Cache section 4.3)."""

    n_answers: int = Field(default=3, ge=1, le=16)
    """Answers that are asked for each example, fewer when the teacher repeats itself. Without a judge
    (`judge.sampled`) what most of them say decides, so that one alone changes nothing."""
    max_times: int = Field(default=5, ge=1, le=100)
    """An example is replayed at most so often."""
    min_regret: float = Field(default=0.02, ge=0)
    """Examples with less to gain are left alone, whatever the cut-off."""
    min_gain: Share = 0.05
    """Replay ends where it improved less than this share of the 20 examples whose regret was most alike, or where that
    share times the regret is less than the calls cost, in the proportion of `reward`'s weights."""
    free_cost: Share = 0.1
    """Normalised cost of an answer that costs nothing: its lost quality counts all the same."""


class CoveragePolicy(Strict):
    """Requests that are asked often, and answered badly or expensively, are found in clusters."""

    min_requests: int = Field(default=5, ge=2)
    """Smaller clusters are not told."""
    n_clusters: int = Field(default=20, ge=1, le=1000)
    """So many are told, the most promising first."""
    fill: bool = False
    """Whether the teacher is asked for their representatives, within the budget."""


class UpkeepPolicy(Strict):
    """How the store is kept small and gets better: `echo-proxy upkeep`, or inside the proxy with `every_s`."""

    max_bytes: int = Field(default=1_000_000_000, ge=10_000)
    """Of all examples of the policy. A round that finds more than 95 % of it evicts down to 90 %, least value per byte
    first, so that there is room until the next one; and holds each writer to its share, see `admission.writer_share`.
    Between rounds nothing is evicted. IC-Cache: a million examples take about 1 GB of text."""
    offload_decay: float = Field(default=0.9, gt=0, le=1)
    """Factor per hour on the counts of successful offloads, and on regret (IC-Cache section 4.3)."""
    keep_new_s: Seconds = 3600.0
    """Examples that are younger are never evicted."""
    every_s: float | None = Field(default=None, ge=10)
    """Seconds between rounds inside the proxy, on one worker of all; null = none."""
    usd_per_round: float = Field(default=1.0, ge=0)
    """What a round may spend on models. Models without a price in LiteLLM cost nothing."""
    seconds_per_round: Seconds = 600.0
    """How long a round may take."""
    idle_share: float = Field(default=0.25, gt=0, le=1)
    """Models are asked only while the teacher's deployments have at most this share of `max_in_flight` to do."""
    max_in_flight: int = Field(default=4, ge=1)
    """Requests that the teacher answers at once without getting slow."""
    replay: ReplayPolicy | None = ReplayPolicy()
    """null = none."""
    coverage: CoveragePolicy | None = CoveragePolicy()
    """null = none."""

    @model_validator(mode="after")
    def _room(self) -> Self:
        if self.every_s is not None and self.seconds_per_round > self.every_s * 10:
            raise ValueError(
                f"seconds_per_round must be at most ten times every_s, got {self.seconds_per_round:g} and "
                f"{self.every_s:g}"
            )
        return self
