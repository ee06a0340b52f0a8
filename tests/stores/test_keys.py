"""Keys and tags are readable, reversible and never shared."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from echo_proxy.stores.keys import Keys, tag, untag
from echo_proxy.types import ArmKey


@given(st.text(max_size=50))
def test_a_tag_gives_back_its_text(text: str) -> None:
    """Reversible, so no two texts share a tag; without a character that a TAG field would split or trim at."""
    assert untag(tag(text)) == text
    assert tag(text)
    assert not set(tag(text)) & set(", |{}*\\\"'")


def test_keys_read_well() -> None:
    """An operator finds them in Redis Insight by what they mean."""
    keys = Keys("default")

    assert tag("key:3f2a") == "key:3f2a"
    assert keys.example("e1") == "echo:{default}:example:e1"
    assert keys.scope_log("key:3f2a") == "echo:{default}:log:key:3f2a"
    assert keys.conversation("9c1d") == "echo:{default}:conversation:9c1d"
    assert keys.lease("upkeep") == "echo:{default}:lease:upkeep"
    assert keys.example_pattern == "echo:{default}:example:*"
    assert Keys("a*[b]?\\").example_pattern == "echo:{a\\*\\[b\\]\\?\\\\}:example:*"
    assert keys.arm(ArmKey("small+4", "utility[0.6,0.8)")) == "echo:{default}:arm:small+4:utility[0.6,0.8)"


def test_a_long_scope_is_refused() -> None:
    """The engine cuts long tags, and two scopes must not become equal by cutting."""
    with pytest.raises(ValueError, match="at most 2000 bytes, got 2001"):
        tag("x" * 2001)


@pytest.mark.parametrize("name", ["", "a{b", "a}b"])
def test_a_policy_name_cannot_break_the_slot(name: str) -> None:
    """Braces in it would scatter the policy's keys over a cluster."""
    with pytest.raises(ValueError, match="without braces, got"):
        Keys(name)
