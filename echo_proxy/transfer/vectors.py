"""How does a vector stand in a line of text?"""

import base64
import binascii
from typing import Literal

import numpy as np

from echo_proxy.types import Embedding

VectorType = Literal["float16", "float32"]
_DTYPES = {"float16": "<f2", "float32": "<f4"}
_TOLERANCE = 0.02
"""How far from 1 a vector's length may be. 384 numbers rounded to float16 stay within 0.0005 (measured)."""


def vector_text(vector: Embedding, kind: VectorType) -> str:
    """Base64 of its numbers, little-endian."""
    return base64.b64encode(vector.astype(_DTYPES[kind]).tobytes()).decode()


def vector_of(text: str, kind: VectorType, dimensions: int) -> Embedding:
    """The unit vector, shape (dimensions,). Raises ValueError saying what was expected and what came."""
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError(f"expected base64, got {text[:20]!r} ({error})") from error
    size = np.dtype(_DTYPES[kind]).itemsize
    if len(raw) != dimensions * size:
        raise ValueError(f"expected {dimensions} numbers of {kind} ({dimensions * size} bytes), got {len(raw)} bytes")
    vector = np.frombuffer(raw, dtype=_DTYPES[kind]).astype(np.float32)  # (dimensions,)
    length = float(np.linalg.norm(vector))
    if not abs(length - 1.0) <= _TOLERANCE:  # also catches NaN
        raise ValueError(f"expected a vector of length 1, got {length:g}")
    return vector / np.float32(length)
