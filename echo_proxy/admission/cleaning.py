"""Where are texts cleaned, so that no request waits for it?"""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from echo_proxy.policy_keeping import PrivacyPolicy
from echo_proxy.privacy.clean import Cleaned

Clean = Callable[[Sequence[str], PrivacyPolicy], Cleaned]
"""One of the functions of privacy/clean.py."""
_LONG = 500
"""Characters from which on texts go to a thread. Measured: patterns take about 0.1 ms for 100 characters, so what stays
on the event loop takes about half a millisecond."""
_thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="echo-clean")
"""One for all lanes of a process: patterns hold the interpreter while they search, so a second thread makes nothing
faster, and the event loop waits for each. Measured: 16 admissions of 8,000 characters, which take 140 to 190 ms in any
case, hold up the loop for 10 to 13 ms at most with one thread, 24 to 40 with two, 150 to 170 with none."""


async def run_clean(clean: Clean, texts: Sequence[str], rules: PrivacyPolicy) -> Cleaned:
    """What `clean` makes of the texts, in the thread where it takes long: requests are being planned meanwhile.

    What comes first is cleaned first, one at a time. Raises what `clean` raises.
    """
    if rules.presidio is None and sum(map(len, texts)) < _LONG:
        return clean(texts, rules)
    return await asyncio.get_running_loop().run_in_executor(_thread, clean, texts, rules)
