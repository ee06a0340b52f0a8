"""How does an evaluation look?"""

from collections.abc import Sequence
from pathlib import Path

from echo_proxy.errors import SettingsError
from echo_proxy.offline.evaluation import Evaluation


def plot(made: Evaluation, names: Sequence[str], path: Path) -> None:
    """Write a picture: differences with their intervals, shares of the arms, reward over the decisions.

    Raises SettingsError without matplotlib, or when the file cannot be written.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise SettingsError("--plot needs matplotlib: pip install 'echo-proxy[plots]'") from error
    figure = Figure(figsize=(14, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(f"{made.verdict}: {names[0]} against {names[1]}")
    left, middle, right = figure.subplots(1, 3)
    for row, one in enumerate(made.comparisons):
        scale = max(abs(one.running.value), 1e-12)
        low, value, high = (100 * x / scale for x in (one.difference.lower, one.difference.value, one.difference.upper))
        left.errorbar(value, row, xerr=[[value - low], [high - value]], fmt="o", capsize=4)
    left.axvline(0, color="grey", linewidth=1)
    left.set_yticks(range(len(made.comparisons)), [one.measure for one in made.comparisons])
    left.set_xlabel("new minus running, % of running (95 %)")
    rows = range(len(made.arms))
    middle.barh([row + 0.2 for row in rows], [arm.new for arm in made.arms], 0.4, label="new")
    middle.barh([row - 0.2 for row in rows], [arm.running for arm in made.arms], 0.4, label="running")
    middle.set_yticks(rows, [arm.arm for arm in made.arms])
    middle.set_xlabel("share of draws")
    middle.legend()
    right.plot([one.n for one in made.over_time], [one.new for one in made.over_time], label="new")
    right.plot([one.n for one in made.over_time], [one.running for one in made.over_time], label="running")
    right.set_xlabel("decisions so far")
    right.set_ylabel("mean reward")
    right.legend()
    try:
        figure.savefig(path, dpi=120)
    except (OSError, ValueError) as error:
        raise SettingsError(f"--plot: expected a picture file that can be written, got {path}: {error}") from error
