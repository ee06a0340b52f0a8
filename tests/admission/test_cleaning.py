"""Where texts are cleaned."""

import asyncio
import threading
from collections.abc import Sequence

import pytest

from echo_proxy.admission.cleaning import run_clean
from echo_proxy.policy_keeping import PrivacyPolicy
from echo_proxy.privacy.clean import Cleaned

RULES = PrivacyPolicy()
LONG = "x" * 500


async def test_one_text_at_a_time_is_cleaned() -> None:
    """Each thread that searches is one more that the event loop waits for; texts are cleaned in their order."""
    started: list[str] = []
    threads: set[int] = set()
    may_go_on = threading.Event()

    def clean(texts: Sequence[str], rules: PrivacyPolicy) -> Cleaned:
        started.append(texts[0][0])
        threads.add(threading.get_ident())
        may_go_on.wait(5)
        return Cleaned(tuple(texts))

    runs = [asyncio.create_task(run_clean(clean, [name + LONG], RULES)) for name in "abcdef"]
    asyncio.get_running_loop().call_soon(may_go_on.set)  # when all of them wait
    made = await asyncio.gather(*runs)

    assert started == list("abcdef")
    assert (len(threads), threading.get_ident() in threads) == (1, False)
    assert [one.texts[0][0] for one in made] == list("abcdef")


async def test_what_cleaning_raises_comes_through() -> None:
    """Out of a thread as well."""

    def fails(texts: Sequence[str], rules: PrivacyPolicy) -> Cleaned:
        raise ValueError("odd")

    for text in ("short", LONG):
        with pytest.raises(ValueError, match="odd"):
            await run_clean(fails, [text], RULES)


@pytest.mark.parametrize("texts", [("x" * 499,), ("x" * 200, "y" * 299)])
async def test_short_texts_need_no_thread(texts: Sequence[str]) -> None:
    """All of a call together."""
    seen: list[int] = []

    def clean(given: Sequence[str], rules: PrivacyPolicy) -> Cleaned:
        seen.append(threading.get_ident())
        return Cleaned(tuple(given))

    await run_clean(clean, texts, RULES)
    await run_clean(clean, (*texts, "z"), RULES)

    assert [one == threading.get_ident() for one in seen] == [True, False]
