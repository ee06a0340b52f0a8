"""The directions in which general prompts differ most: the topic features of `echo_proxy/learning/context.py`.

    python -m bench.router.topics --data ../shared/data

Principal components of the bundled embedder's vectors of prompts whose licences allow any use. Written to
`echo_proxy/assets/topics`; prints the centre and spread of the features of a text, which stand in `context.py`.
"""

import argparse
import json
import random
import tempfile
from pathlib import Path

import numpy as np

from bench.router.streams import Array, embed
from echo_proxy.learning.text_measures import NAMES, measures

N_TOPICS = 24
_ASSET = Path("echo_proxy/assets/topics/minilm-384.npz")
_READ = 2000


def prompts(data: Path) -> list[str]:
    """Questions (nq_open), instructions (self_instruct) and commands in words (nl2bash), half as many of the last."""
    rng = random.Random(0)
    questions = [json.loads(line)["question"] for line in _lines(data / "nq_open/NQ-open.dev.jsonl")]
    tasks = [
        json.loads(line)
        for name in ("seed_tasks", "user_oriented_instructions")
        for line in _lines(data / f"self_instruct/{name}.jsonl")
    ]
    instructions = [f"{task['instruction']}\n{task['instances'][0]['input'] or ''}".strip() for task in tasks]
    commands = _lines(data / "nl2bash/all.nl")
    n = len(instructions)
    parts = [rng.sample(questions, n), instructions, rng.sample(commands, n // 2)]
    return [text.strip()[:_READ] for part in parts for text in part]


def principal_components(vectors: Array) -> tuple[Array, Array]:
    """Mean, shape (dimensions,), and the first orthonormal directions, shape (N_TOPICS, dimensions)."""
    mean = vectors.mean(axis=0)
    directions = np.linalg.svd(vectors - mean, full_matrices=False)[2][:N_TOPICS]
    signs = np.sign(directions[np.arange(N_TOPICS), np.abs(directions).argmax(axis=1)])  # svd leaves them open
    return mean, directions * signs[:, None]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "echo-proxy-bench")
    options = parser.parse_args()
    texts = prompts(options.data)
    vectors = np.asarray(embed(texts, options.cache), dtype=np.float64)
    mean, basis = principal_components(vectors)
    _ASSET.parent.mkdir(parents=True, exist_ok=True)
    np.savez(_ASSET, mean=mean.astype(np.float32), basis=basis.astype(np.float32))
    share = ((vectors - mean) @ basis.T).var(axis=0).sum() / (vectors - mean).var(axis=0).sum()
    print(
        f"{len(texts)} prompts; {N_TOPICS} directions hold {share:.2f} of the variance; {_ASSET.stat().st_size} bytes"
    )
    found = np.array([measures(text) for text in texts])
    for name, centre, spread in zip(NAMES, found.mean(axis=0), found.std(axis=0), strict=True):
        print(f"    {name}: {centre:.3f}, {spread:.3f}")


def _lines(path: Path) -> list[str]:
    return [line for line in path.read_text().splitlines() if line.strip()]


if __name__ == "__main__":
    main()
