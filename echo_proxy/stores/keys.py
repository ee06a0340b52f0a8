"""Where does each thing lie in Redis?"""

import re
from dataclasses import dataclass
from urllib.parse import quote, unquote

from echo_proxy.types import ArmKey

_MAX_TAG_BYTES = 2000
"""The search engine cuts tags at 4096 bytes, and two scopes must never become equal by cutting."""
_EMPTY = "%"
"""Stands for the empty string, which no query can look for; `quote` never returns it."""


def tag(value: str) -> str:
    """A text as an exact TAG: readable, reversible, of harmless characters only. Raises ValueError when too long.

    Left as it is a tag would be split at commas, trimmed, and two scopes might meet. No two texts share a tag.
    """
    encoded = quote(value, safe=":", errors="surrogatepass") or _EMPTY
    if len(encoded) > _MAX_TAG_BYTES:
        raise ValueError(f"a scope or partition must be at most {_MAX_TAG_BYTES} bytes, got {len(encoded)}")
    return encoded


def untag(value: str) -> str:
    """The text that `tag` was given."""
    return "" if value == _EMPTY else unquote(value, errors="surrogatepass")


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of one policy. The braces make a cluster keep them all in one slot."""

    policy: str

    def __post_init__(self) -> None:
        if not self.policy or set(self.policy) & set("{}"):
            raise ValueError(f"a policy's name must be non-empty and without braces, got {self.policy!r}")

    @property
    def root(self) -> str:
        """What all keys of the policy begin with."""
        return f"echo:{{{self.policy}}}"

    @property
    def index(self) -> str:
        """Name under which the search index of the store's first model is searched: an alias of the one in use."""
        return f"{self.root}:examples"

    @property
    def example_prefix(self) -> str:
        """What the keys of examples begin with."""
        return f"{self.root}:example:"

    @property
    def example_pattern(self) -> str:
        """Matches the keys of examples and no others, whatever the policy's name holds."""
        return re.sub(r"([\\*?\[\]])", r"\\\1", self.example_prefix) + "*"

    @property
    def meta(self) -> str:
        """HASH: what the index was made with."""
        return f"{self.root}:meta"

    @property
    def reembedded(self) -> str:
        """SET: left by a reembedding that an earlier version of the program did not finish."""
        return f"{self.root}:reembedded"

    @property
    def log(self) -> str:
        """STREAM: settled decisions, oldest first."""
        return f"{self.root}:log"

    @property
    def lessons(self) -> str:
        """STREAM: what settled decisions teach, oldest first."""
        return f"{self.root}:lessons"

    @property
    def loads(self) -> str:
        """HASH: how busy each worker finds its deployments, by worker."""
        return f"{self.root}:loads"

    @property
    def fence(self) -> str:
        """STRING: the highest fence of any lease."""
        return f"{self.root}:fence"

    @property
    def runs(self) -> str:
        """STREAM: what upkeep did, oldest first."""
        return f"{self.root}:upkeep"

    @property
    def notes(self) -> str:
        """HASH: what upkeep found out, by name."""
        return f"{self.root}:notes"

    def lease(self, name: str) -> str:
        """STRING with expiry: who does this now, as `<fence> <holder>`."""
        return f"{self.root}:lease:{name}"

    @property
    def arms(self) -> str:
        """SET: keys of all arms that have evidence."""
        return f"{self.root}:arms"

    @property
    def total(self) -> str:
        """HASH: counts of all scopes together."""
        return f"{self.root}:total"

    def example(self, example_id: str) -> str:
        """HASH: one example."""
        return self.example_prefix + example_id

    def decision(self, decision_id: str) -> str:
        """HASH: one decision."""
        return f"{self.root}:decision:{decision_id}"

    def scope_log(self, scope: str) -> str:
        """STREAM: settled decisions of one scope, oldest first."""
        return f"{self.log}:{tag(scope)}"

    def conversation(self, conversation: str) -> str:
        """STRING: which deployment answered its last turn."""
        return f"{self.root}:conversation:{conversation}"

    def count(self, scope: str) -> str:
        """HASH: counts of one scope."""
        return f"{self.root}:count:{scope}"

    def arm(self, key: ArmKey) -> str:
        """HASH: evidence about an arm in a segment. The arm's colons are encoded, so no two of them share a key."""
        return f"{self.root}:arm:{quote(key.arm, safe='+/@ ')}:{key.segment}"
