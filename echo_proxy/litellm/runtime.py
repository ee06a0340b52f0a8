"""Where is this worker's Echo? The one place that hooks, routes and start-up share.

LiteLLM may execute `hooks.py` a second time from a path beside its config file; this module is imported normally and
so exists once.
"""

from dataclasses import dataclass

from echo_proxy.litellm.desk import Desk


@dataclass(slots=True)
class _Runtime:
    desk: Desk | None = None


_runtime = _Runtime()


def set_desk(desk: Desk | None) -> None:
    """Called once by the worker's start-up."""
    _runtime.desk = desk


def get_desk() -> Desk | None:
    """This worker's desk; None before start-up, or when the start-up hook was not configured."""
    return _runtime.desk
