import pytest

from echo_proxy.limits.priority import priority_of
from echo_proxy.policy import PriorityPolicy
from tests.builders import request


@pytest.mark.parametrize(
    ("asked", "is_allowed", "expected"),
    [(None, True, 5), (50, True, 50), (50, False, 5), (-50, False, 5), (0, True, 0)],
)
def test_a_caller_is_heard_where_the_policy_says_so(asked: int | None, is_allowed: bool, expected: int) -> None:
    """Otherwise, and without a wish, the policy's own rank counts."""
    assert priority_of(request(priority=asked), PriorityPolicy(default=5, allow_client=is_allowed)) == expected
