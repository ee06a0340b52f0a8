"""How does a grown model learn to use what it was given? By some more training on the same world.

What is trained is what the large model was taught: the new blocks at a rate far below that of the first training, all
that was there before at a still lower one, because it is right already (LLaMA Pro freezes it). Told at the end: the
loss on chats that were not trained on, before, after, and after without the new blocks.
Needs `torch` (2.9 or newer, for Muon) and `tokenizers`.
"""

# mypy: disable-error-code="import-not-found,no-any-return,no-untyped-call,untyped-decorator"
# torch is absent where the project is checked, so its types are unknown there.

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bench.pair.data import Batch, Chats
from bench.pair.export import named_tensors
from bench.pair.gguf_file import GgufModel
from bench.pair.model import LanguageModel, Shape
from bench.pair.tokenizer import ChatTokenizer, tokenizer_of
from bench.pair.train import Optimizers, loss_of, share_of_rate

_HELD_OUT_SEED = 10_001
_HELD_OUT_BATCHES = 8


@dataclass(frozen=True, slots=True)
class TrainingOn:
    """One run."""

    minutes: float
    """CPU time of the steps, so that a busy machine does not shorten the training."""
    threads: int = 1
    each: int = 2
    """Blocks per old block: of so many, the first is the old one."""
    n_sequences: int = 8
    """Sequences of a step."""
    length: int = 256
    """Tokens of a sequence."""
    learning_rate: float = 5e-4
    """Of the new blocks; 1e-3 undid much of what was known."""
    slowness: float = 4.0
    """What was there before learns at a rate so many times lower."""
    seed: int = 1


def train_on(grown: GgufModel, run: TrainingOn) -> GgufModel:
    """The model after training."""
    torch.manual_seed(run.seed)
    torch.set_num_threads(run.threads)
    model = to_torch(grown)
    tokenizer = ChatTokenizer(
        tokenizer_of(*(grown.settings[f"tokenizer.ggml.{key}"][0] for key in ("tokens", "merges")))
    )
    held_out_chats = Chats("large", tokenizer, run.length, _HELD_OUT_SEED)
    held_out = [held_out_chats.batch(run.n_sequences) for _ in range(_HELD_OUT_BATCHES)]
    new = [index for index in range(len(model.blocks)) if index % run.each]
    _tell("before", model, held_out, new)
    _steps(model, Chats("large", tokenizer, run.length, run.seed), run, new)
    _tell("after", model, held_out, new)
    return from_torch(model, grown)


def to_torch(grown: GgufModel) -> LanguageModel:
    """The weights in a module that can be trained."""
    shape = Shape(
        width=grown.number("embedding_length"),
        n_layers=grown.number("block_count"),
        n_heads=grown.number("attention.head_count"),
        hidden=grown.number("feed_forward_length"),
    )
    model = LanguageModel(len(grown.settings["tokenizer.ggml.tokens"][0]), shape)
    # The parts of a joint matrix are views of it, so what is copied into them stands in the model.
    for name, weight in named_tensors(model.state_dict(), shape):
        weight.copy_(torch.from_numpy(np.array(grown.weights[name])))
    return model


def from_torch(model: LanguageModel, grown: GgufModel) -> GgufModel:
    """The trained weights with the words of the grown model."""
    weights: dict[str, NDArray[np.float32]] = {
        name: weight.detach().float().numpy() for name, weight in named_tensors(model.state_dict(), model.shape)
    }
    return GgufModel(grown.settings, weights)


def _steps(model: LanguageModel, chats: Chats, run: TrainingOn, new: Sequence[int]) -> None:
    for block in model.blocks:
        block.compile(dynamic=False)
    old = [f"blocks.{index}." for index in range(len(model.blocks)) if index not in new]
    optimizers = Optimizers(model, run.learning_rate, ["embedding.", "head.", "norm.", *old], run.slowness)
    started_s, step, progress = time.process_time(), 0, 0.0
    while progress < 1:
        loss = loss_of(model, chats.batch(run.n_sequences))
        loss.backward()
        optimizers.step(share_of_rate(step, progress))
        progress = (time.process_time() - started_s) / (60 * run.minutes)
        if step % 25 == 0:
            print(f"step {step} loss {loss.item():.4f} done {progress:.0%}", flush=True)
        step += 1
    print(f"{step} steps of {run.n_sequences * run.length} tokens", flush=True)


@torch.no_grad()
@torch.compiler.set_stance("force_eager")
def _tell(when: str, model: LanguageModel, held_out: Sequence[Batch], new: Sequence[int]) -> None:
    with_new = _mean_loss(model, held_out)
    added = _added(model, held_out[0], new)
    saved = {name: weight.clone() for name, weight in model.state_dict().items()}
    for index in new:
        model.blocks[index].attention_out.weight.zero_()
        model.blocks[index].down.weight.zero_()
    without = _mean_loss(model, held_out)
    model.load_state_dict(saved)
    print(f"{when}: held-out loss {with_new:.4f}, without the new blocks {without:.4f}")
    print(f"{when}: what each new block adds, share of what flows past it: {added}", flush=True)


def _mean_loss(model: LanguageModel, batches: Sequence[Batch]) -> float:
    return sum(loss_of(model, batch).item() for batch in batches) / len(batches)


def _added(model: LanguageModel, batch: Batch, indices: Sequence[int]) -> list[float]:
    """Norm of what each block adds over the norm of what it is given."""
    found: list[float] = []

    def look(_: Any, given: tuple[Tensor, ...], made: Tensor) -> None:
        found.append(round(float((made - given[0]).norm() / given[0].norm()), 3))

    hooks = [model.blocks[index].register_forward_hook(look) for index in indices]
    loss_of(model, batch)
    for hook in hooks:
        hook.remove()
    return found
