"""The real clock; tests have a frozen one."""

import time


class SystemClock:
    """Tells the machine's time."""

    def now(self) -> float:
        """Seconds since the epoch."""
        return time.time()

    def monotonic(self) -> float:
        """Seconds that never go back."""
        return time.monotonic()
