from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from echo_proxy.engine.answer import AnswerText


def _run(pieces: list[bytes], stop: list[str]) -> tuple[list[str], AnswerText]:
    answer = AnswerText(stop)
    return [answer.feed(piece) for piece in pieces] + [answer.finish()], answer


def test_text_passes_at_once_without_stop_texts() -> None:
    """Nothing is held back that cannot be part of a stop text."""
    released, _ = _run([b"one ", b"two"], [])

    assert released == ["one ", "two", ""]


def test_beginning_of_a_stop_text_is_held_until_it_is_clear() -> None:
    """What may become a stop text waits; what did not become one is released."""
    released, answer = _run([b"a#", b"b##", b"#c"], ["###"])

    assert released == ["a", "#b", "", ""]
    assert answer.is_stopped
    assert answer.text == "a#b"


def test_held_text_is_released_at_the_end() -> None:
    """An answer that ends with half a stop text keeps that half."""
    released, answer = _run([b"a#"], ["##"])

    assert released == ["a", "#"]
    assert not answer.is_stopped


def test_earliest_stop_text_wins() -> None:
    """Of two stop texts in one token, the first in the text counts, not the first in the list."""
    _, answer = _run([b"a.b,c"], [",", "."])

    assert answer.text == "a"


def test_characters_are_never_cut() -> None:
    """A character split over tokens comes out whole."""
    raw = "für 你".encode()
    released, _ = _run([raw[i : i + 1] for i in range(len(raw))], [])

    assert "".join(released) == "für 你"
    assert all("\ufffd" not in text for text in released)


def test_many_stop_texts_cost_little() -> None:
    """What may begin one is looked up, not compared with each: counted in texts compared, not in time."""
    compared = 0

    class Counted(str):
        __slots__ = ()

        def startswith(self, *args: Any) -> bool:
            nonlocal compared
            compared += 1
            return super().startswith(*args)

    stop = [Counted(f"{number:02d}" * 250) for number in range(64)]
    released, answer = _run([b"63"] * 249, [*stop])

    assert "".join(released) == answer.text == "63" * 249
    assert compared <= 249 * 2


@given(st.text("ab#é"), st.lists(st.text("ab#", min_size=1), max_size=3), st.integers(1, 4))
def test_pieces_add_up_to_the_text_before_the_first_stop(text: str, stop: list[str], size: int) -> None:
    """However the text is cut into tokens, what is released is the text up to the first stop text."""
    raw = text.encode()
    released, answer = _run([raw[i : i + size] for i in range(0, len(raw), size)], stop)
    ends = [at for one in stop if (at := text.find(one)) >= 0]

    # A token may complete two stop texts at once; the one that begins first in what is left counts.
    assert "".join(released) == answer.text
    if not ends:
        assert answer.text == text
    else:
        assert answer.is_stopped
        assert text.startswith(answer.text)
