"""Which band of requests does this one belong to, so that it shares their averages?"""

from echo_proxy.online.names import names_in
from echo_proxy.policy import Segments
from echo_proxy.types import Names, Request, Selection


def segment_of(request: Request, selection: Selection, rules: Segments | None) -> str:
    """A label that holds its own bounds: when the bounds change, evidence starts fresh under new labels."""
    best = selection.chosen[0] if selection.chosen else None
    names = best.names if best else (Names.MISSING if names_in(request.text) else Names.NONE)
    return label(best.utility if best else None, names, rules)


def label(utility: float | None, names: Names, rules: Segments | None) -> str:
    """The same from the best chosen example's utility (None = none is chosen) and from its names."""
    if rules is None:
        return "all"
    band = "none" if utility is None else _band(utility, rules.utility_edges)
    if not rules.names:
        return f"utility={band}"
    if names is Names.MISSING:
        return "names=missing"  # an example about something else helps little, however near it lies
    return f"utility={band} names={names}"


def _band(utility: float, edges: tuple[float, ...]) -> str:
    bounds = (0.0, *edges, 1.0)
    index = sum(utility >= edge for edge in edges)
    return f"{bounds[index]:g}-{bounds[index + 1]:g}"
