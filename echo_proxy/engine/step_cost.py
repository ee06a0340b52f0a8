"""What does a step cost, by its rows? A line through the usual time of each size, measured all the time."""

MOST_ROWS = 128
"""Steps with more rows read prompts, at other costs per row; they say nothing about drafts, and drafts
make none."""
_MOST_SIZES = 24
"""Sizes that are kept, those that were seen last."""
_RATE = 0.1
"""Share of the newest step in what steps of its size take. guess, not yet measured"""
_OUTLIER = 3.0
"""Usual deviations that a step can count for; disturbed ones take more. guess, not yet measured"""
_SETTLED = 20
"""Steps after which a size counts fully."""
_REFIT = 8
"""Steps after which the line is drawn anew."""
_DOUBT = 0.9
"""Steps of a size that hardly count: the first may have been disturbed. guess, held against the tests' simulation"""
_STEP_FADING = 0.997
"""What a size counts after each further step of other sizes. guess, not yet measured"""
_LEAST_ROW_SHARE = 0.01
"""Of a step, that a row takes at least: less is lost in noise, and there is work around the model too."""
ROW_SHARE = 0.1
"""What a row is thought to take of a step, until steps of different sizes tell. guess, not yet measured"""


class StepCost:
    """What a step takes, by its rows: a line through the usual time of each size."""

    def __init__(self) -> None:
        self._sizes: dict[int, Usual] = {}
        self._seen_at: dict[int, int] = {}
        self._n_steps = 0
        self._line: tuple[float, float] | None = None

    def saw(self, n_rows: int, seconds: float) -> None:
        """Count a step."""
        if 0 < n_rows <= MOST_ROWS and seconds > 0:
            self._n_steps += 1
            self._seen_at[n_rows] = self._n_steps
            self._sizes.setdefault(n_rows, Usual(seconds)).add(seconds)
            if len(self._sizes) > _MOST_SIZES:
                oldest = min(self._seen_at, key=self._seen_at.__getitem__)
                del self._sizes[oldest], self._seen_at[oldest]
            if self._n_steps < _SETTLED or self._n_steps % _REFIT == 0:
                self._line = None

    @property
    def fixed_s(self) -> float:
        """Seconds that a step takes whatever its rows; 0 before the first one."""
        return self._fitted()[0]

    @property
    def row_s(self) -> float:
        """Seconds that each row takes."""
        return self._fitted()[1]

    def _fitted(self) -> tuple[float, float]:
        if self._line is None:
            self._line = self._fit()
        return self._line

    def _fit(self) -> tuple[float, float]:
        """Least squares over the sizes, drawn a little to `ROW_SHARE`; neither part is negative."""
        if not self._sizes:
            return 0.0, 0.0
        points = [(n, usual.seconds, self._weight(n)) for n, usual in self._sizes.items()]
        weight = sum(w for _, _, w in points)
        mean_rows = sum(w * n for n, _, w in points) / weight
        mean_s = sum(w * s for _, s, w in points) / weight
        spread = sum(w * (n - mean_rows) ** 2 for n, _, w in points)
        together = sum(w * (n - mean_rows) * (s - mean_s) for n, s, w in points)
        imagined = ROW_SHARE * mean_s / mean_rows
        least, most = _LEAST_ROW_SHARE * mean_s / (1 + _LEAST_ROW_SHARE * mean_rows), mean_s / mean_rows
        row_s = min(max((together + imagined) / (spread + 1.0), least), most)
        return mean_s - row_s * mean_rows, row_s

    def _weight(self, n_rows: int) -> float:
        n_seen = min(self._sizes[n_rows].n, _SETTLED) - _DOUBT
        return float(n_seen * _STEP_FADING ** (self._n_steps - self._seen_at[n_rows]))


class Usual:
    """A moving average that no single value can move far."""

    __slots__ = ("_deviation", "n", "seconds")

    def __init__(self, first: float) -> None:
        self.seconds = first
        self._deviation = first / 4
        self.n = 0

    def add(self, seconds: float) -> None:
        """Count one."""
        self.n += 1
        rate = max(_RATE, 1 / self.n)
        off = seconds - self.seconds
        most = _OUTLIER * self._deviation
        self._deviation += _RATE * (min(abs(off), most) - self._deviation)
        self.seconds += rate * min(max(off, -most), most)
