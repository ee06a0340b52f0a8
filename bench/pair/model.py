"""What are the two models? Transformers of the llama architecture, small enough to train on a CPU.

Needs `torch`, which is not a dependency of the project.
"""

# mypy: disable-error-code="import-not-found,misc,no-any-return"
# torch is absent where the project is checked, so its types are unknown there.

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

NORM_EPSILON = 1e-5
ROPE_BASE = 10_000.0


@dataclass(frozen=True, slots=True)
class Shape:
    """Sizes of a model."""

    width: int
    """Features of a token."""
    n_layers: int
    n_heads: int
    """Divides `width`."""
    hidden: int
    """Features inside the feed-forward part."""
    n_context: int = 1024
    """Longest sequence, in tokens."""

    @property
    def head_width(self) -> int:
        """Features of one attention head."""
        return self.width // self.n_heads


SHAPES: dict[Literal["small", "large"], Shape] = {
    "small": Shape(width=128, n_layers=4, n_heads=4, hidden=352),
    "large": Shape(width=256, n_layers=6, n_heads=8, hidden=704),
}


class Block(nn.Module):
    """Attention and a gated feed-forward part, each normed before and added to its input."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.attention_norm = nn.RMSNorm(shape.width, eps=NORM_EPSILON)
        self.query_key_value = nn.Linear(shape.width, 3 * shape.width, bias=False)
        self.attention_out = nn.Linear(shape.width, shape.width, bias=False)
        self.forward_norm = nn.RMSNorm(shape.width, eps=NORM_EPSILON)
        self.gate_up = nn.Linear(shape.width, 2 * shape.hidden, bias=False)
        self.down = nn.Linear(shape.hidden, shape.width, bias=False)
        # A block that adds nothing at first keeps the early steps stable.
        nn.init.zeros_(self.attention_out.weight)
        nn.init.zeros_(self.down.weight)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """Features after the block; x has shape (batch, length, width), cos and sin (length, head_width / 2)."""
        batch, length, width = x.shape
        joint = self.query_key_value(self.attention_norm(x))  # (batch, length, 3 * width)
        split = joint.view(batch, length, 3, self.shape.n_heads, self.shape.head_width)
        query, key, value = split.permute(2, 0, 3, 1, 4)  # each (batch, n_heads, length, head_width)
        query, key = rotate(query, cos, sin), rotate(key, cos, sin)
        seen = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + self.attention_out(seen.transpose(1, 2).reshape(batch, length, width))
        gate, up = self.gate_up(self.forward_norm(x)).chunk(2, -1)  # each (batch, length, hidden)
        return x + self.down(functional.silu(gate) * up)


class LanguageModel(nn.Module):
    """Tokens to logits."""

    def __init__(self, n_tokens: int, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.embedding = nn.Embedding(n_tokens, shape.width)
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.n_layers))
        self.norm = nn.RMSNorm(shape.width, eps=NORM_EPSILON)
        self.head = nn.Linear(shape.width, n_tokens, bias=False)
        frequencies = ROPE_BASE ** (-torch.arange(0, shape.head_width, 2).float() / shape.head_width)
        angles = torch.arange(shape.n_context).float()[:, None] * frequencies  # (n_context, head_width / 2)
        self.register_buffer("cos", angles.cos())
        self.register_buffer("sin", angles.sin())
        self._draw_weights()

    def forward(self, ids: Tensor, positions: Tensor) -> Tensor:
        """Logits, shape (n_positions, n_tokens), of ids, shape (batch, length), at flattened positions."""
        x = self.embedding(ids)  # (batch, length, width)
        cos, sin = (table[: ids.shape[1]].to(torch.bfloat16) for table in (self.cos, self.sin))
        for block in self.blocks:
            x = block(x, cos, sin)
        return self.head(self.norm(x.reshape(-1, x.shape[-1])[positions]))

    def _draw_weights(self) -> None:
        nn.init.normal_(self.embedding.weight, std=0.02)
        linears = [self.head, *(part for block in self.blocks for part in (block.query_key_value, block.gate_up))]
        for linear in linears:
            nn.init.normal_(linear.weight, std=0.5 * linear.in_features**-0.5)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary position embedding of x, shape (..., length, head_width), in interleaved pairs.

    llama.cpp expects interleaved pairs of the `llama` architecture (LLAMA_ROPE_TYPE_NORM).
    """
    even, odd = x[..., 0::2], x[..., 1::2]
    return torch.stack((even * cos - odd * sin, even * sin + odd * cos), -1).flatten(-2)
