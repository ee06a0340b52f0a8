"""Which texts can be embedded at all?"""

from collections.abc import Sequence


def check_texts(texts: Sequence[str]) -> None:
    """Refuse texts that no embedder could give a meaningful unit vector for.

    Checked before texts of several requests share a batch, so that one bad text cannot spoil the others.

    Raises:
        ValueError: a text is blank, or cannot be encoded in UTF-8.
    """
    for index, text in enumerate(texts):
        if not text.strip():
            raise ValueError(f"expected texts with at least one visible character, got a blank one at index {index}")
        if not _is_encodable(text):
            raise ValueError(f"expected texts that UTF-8 can encode, got a lone surrogate at index {index}")


def _is_encodable(text: str) -> bool:
    # A JSON body may hold half of a surrogate pair ("\ud83d"), which Python reads without complaint.
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
