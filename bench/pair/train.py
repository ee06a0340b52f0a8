"""How were the two bundled models trained? From nothing, on the synthetic world, in under an hour on one CPU.

    python -m bench.pair.train tokenizer
    python -m bench.pair.train small --minutes 20
    python -m bench.pair.train large --minutes 40

Needs `torch` (2.9 or newer, for Muon) and `tokenizers`. `torch` is not a dependency of the project: the demo ships the
result, and nobody has to train. A new run gives other weights of about the same quality, not the bundled ones.
"""

# mypy: disable-error-code="import-not-found,no-any-return,no-untyped-call"
# torch is absent where the project is checked, so its types are unknown there.

import argparse
import time
from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import torch
from tokenizers import Tokenizer
from torch.nn import functional

from bench.pair.data import Batch, Chats, Size
from bench.pair.model import SHAPES, LanguageModel
from bench.pair.tokenizer import ChatTokenizer, train_tokenizer

DEFAULT_FOLDER = Path("bench/pair/models")
_WARM_UP_STEPS = 30
_LAST_RATE = 0.02
"""Share of the learning rate that is left at the end."""
_SAVE_EVERY = 200


@dataclass(frozen=True, slots=True)
class Run:
    """One training run."""

    size: Size
    folder: Path
    """Holds tokenizer.json and receives {size}.pt."""
    minutes: float
    """CPU time, so that a busy machine does not shorten the training."""
    n_sequences: int = 16
    """Sequences of a step."""
    length: int = 256
    """Tokens of a sequence."""
    learning_rate: float = 4e-3
    seed: int = 0


class Optimizers:
    """Muon for the matrices inside the blocks, AdamW for the rest, under one schedule."""

    def __init__(
        self, model: LanguageModel, learning_rate: float, slow: Collection[str] = (), slowness: float = 1.0
    ) -> None:
        """Parameters whose name begins with one of `slow` learn at a rate `slowness` times lower."""
        inside, outside = _Groups(learning_rate), _Groups(learning_rate)
        for name, weight in model.named_parameters():
            is_inside = name.startswith("blocks.") and weight.dim() == 2
            is_slow = name.startswith(tuple(slow))
            (inside if is_inside else outside).add(weight, 1 / slowness if is_slow else 1.0)
        self._both = (
            torch.optim.Muon(
                inside.all(), lr=learning_rate, momentum=0.95, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"
            ),
            torch.optim.AdamW(outside.all(), lr=learning_rate, betas=(0.9, 0.97), weight_decay=0.0),
        )

    def step(self, share_of_rate: float) -> None:
        """Change the weights by their gradients, then forget those."""
        for optimizer in self._both:
            for group in optimizer.param_groups:
                group["lr"] = group["full_rate"] * share_of_rate
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)


class _Groups:
    """Parameters by their learning rate."""

    def __init__(self, learning_rate: float) -> None:
        self._learning_rate = learning_rate
        self._by_scale: dict[float, list[torch.Tensor]] = defaultdict(list)

    def add(self, weight: torch.Tensor, scale: float) -> None:
        self._by_scale[scale].append(weight)

    def all(self) -> list[dict[str, Any]]:
        """As torch's optimizers take them."""
        return [
            {"params": weights, "full_rate": self._learning_rate * scale} for scale, weights in self._by_scale.items()
        ]


def share_of_rate(step: int, progress: float) -> float:
    """Share of the learning rate, (0, 1], at a progress of [0, 1]: warm up, hold for half of the run, then go down."""
    warm_up = min(1.0, (step + 1) / _WARM_UP_STEPS)
    return warm_up * min(1.0, max(_LAST_RATE, 2 * (1 - progress)))


def train(run: Run) -> Path:
    """Train, and return the file of the weights."""
    torch.manual_seed(run.seed)
    tokenizer = ChatTokenizer(Tokenizer.from_file(str(run.folder / "tokenizer.json")))
    model = LanguageModel(tokenizer.n_tokens, SHAPES[run.size])
    for block in model.blocks:
        block.compile(dynamic=False)
    optimizers = Optimizers(model, run.learning_rate)
    chats = Chats(run.size, tokenizer, run.length, run.seed)
    path, started_s, step, progress = run.folder / f"{run.size}.pt", time.process_time(), 0, 0.0
    while progress < 1:
        loss = loss_of(model, chats.batch(run.n_sequences))
        loss.backward()
        optimizers.step(share_of_rate(step, progress))
        progress = (time.process_time() - started_s) / (60 * run.minutes)
        if step % 50 == 0:
            print(f"{run.size} step {step} loss {loss.item():.3f} done {progress:.0%}", flush=True)
        if step % _SAVE_EVERY == _SAVE_EVERY - 1:
            torch.save(model.state_dict(), path)
        step += 1
    torch.save(model.state_dict(), path)
    return path


def loss_of(model: LanguageModel, batch: Batch) -> torch.Tensor:
    """Mean cross entropy of the batch's targets, in nats."""
    inputs, targets, positions = (torch.from_numpy(part) for part in (batch.inputs, batch.targets, batch.positions))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = model(inputs, positions)  # (n_targets, n_tokens)
    return functional.cross_entropy(logits.float(), targets)


def main() -> None:
    """Train what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("tokenizer", "small", "large"))
    parser.add_argument("--folder", type=Path, default=DEFAULT_FOLDER)
    parser.add_argument("--minutes", type=float, default=20.0, help="CPU minutes")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    if options.what == "tokenizer":
        print(train_tokenizer(options.folder / "tokenizer.json"), "tokens")
        return
    torch.set_num_threads(options.threads)
    print(train(Run(cast(Literal["small", "large"], options.what), options.folder, options.minutes)))


if __name__ == "__main__":
    main()
