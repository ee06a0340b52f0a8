"""How is a larger large model made from the bundled one, so that large costs as much more than small as in practice?

    python -m bench.pair.grow --out models/xl.gguf
    python -m bench.pair.grow --out models/xl.gguf --minutes 15

A grown model says what the bundled one says: new blocks and new features of the feed-forward parts add nothing at
first, because what they write is zero. Without `--minutes` the file follows from the bundled one and the seed alone.
With it the model is trained on: a quarter of an hour lowered the loss a little, but by what was there before; the new
parts write 3 to 7 % of what flows past them and the loss does not hang on them (grow_log.txt). They cost, that is all.
Needs `gguf`, and with `--minutes` also `torch`.

Source: LLaMA Pro, Wu et al. 2024, https://arxiv.org/abs/2401.02415 (new blocks, interleaved); Net2Net, Chen et al.
2015, https://arxiv.org/abs/1511.05641 (wider without a change of what is computed).
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.pair.evaluate import PAIR
from bench.pair.gguf_file import GgufModel, Weights, read, write

_OUTPUTS = ("attn_output.weight", "ffn_down.weight")
"""What a block writes."""


@dataclass(frozen=True, slots=True)
class Growth:
    """How much larger."""

    copies: int = 1
    """New blocks behind each old one."""
    hidden: int = 2048
    """Features inside each feed-forward part, at least as many as before; a multiple of 32, the block of q8_0."""
    seed: int = 0


def grow(model: GgufModel, growth: Growth) -> GgufModel:
    """A larger model that computes the same."""
    rng = np.random.default_rng(growth.seed)
    n_old, each = model.number("block_count"), growth.copies + 1
    weights = {name: array for name, array in model.weights.items() if not name.startswith("blk.")}
    for index in range(n_old * each):
        block = widened(block_of(model.weights, index // each), growth.hidden, rng)
        is_new = index % each > 0
        for name, array in block.items():
            weights[f"blk.{index}.{name}"] = np.zeros_like(array) if is_new and name in _OUTPUTS else array
    numbers = {"block_count": n_old * each, "feed_forward_length": growth.hidden}
    return model.with_numbers("echo-xl", numbers, weights)


def block_of(weights: Weights, index: int) -> dict[str, NDArray[np.float32]]:
    """The tensors of one block, by their names inside it."""
    prefix = f"blk.{index}."
    return {name.removeprefix(prefix): array for name, array in weights.items() if name.startswith(prefix)}


def widened(block: Weights, hidden: int, rng: np.random.Generator) -> dict[str, NDArray[np.float32]]:
    """The block with more features in its feed-forward part, which read at random and write nothing."""
    old, width = block["ffn_gate.weight"].shape
    if hidden < old or hidden % 32:
        raise ValueError(f"hidden must be a multiple of 32 and at least {old}, got {hidden}")
    made = dict(block)
    for name in ("ffn_gate.weight", "ffn_up.weight"):
        scale = block[name].std()
        fresh = rng.normal(0.0, scale, (hidden - old, width)).astype(np.float32)
        made[name] = np.concatenate([block[name], fresh])  # (hidden, width)
    silent = np.zeros((width, hidden - old), np.float32)
    made["ffn_down.weight"] = np.concatenate([block["ffn_down.weight"], silent], axis=1)  # (width, hidden)
    return made


def main() -> None:
    """Write the grown model, trained on when minutes are given."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--base", type=Path, default=PAIR / "large-q8_0.gguf")
    parser.add_argument("--copies", type=int, default=1, help="new blocks behind each old one")
    parser.add_argument("--hidden", type=int, default=2048, help="features of each feed-forward part")
    parser.add_argument("--minutes", type=float, default=0.0, help="CPU minutes of training on")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    options.out.parent.mkdir(parents=True, exist_ok=True)
    model = grow(read(options.base), Growth(options.copies, options.hidden))
    if options.minutes > 0:
        from bench.pair.train_on import TrainingOn, train_on  # torch: growing alone does not need it

        model = train_on(model, TrainingOn(options.minutes, options.threads, options.copies + 1))
    write(model, options.out)
    print(options.out, options.out.stat().st_size, "bytes")


if __name__ == "__main__":
    main()
