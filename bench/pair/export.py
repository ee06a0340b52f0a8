"""How do trained weights become a GGUF file that llama.cpp serves?

    python -m bench.pair.export small
    python -m bench.pair.export large

Needs `torch`, `gguf` and `tokenizers`; the first two are not dependencies of the project.
"""

# mypy: disable-error-code="import-not-found,no-any-return"
# torch and gguf are absent where the project is checked, so their types are unknown there.

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from gguf import GGMLQuantizationType, GGUFWriter, LlamaFileType, TokenType
from gguf.quants import quantize
from torch import Tensor

from bench.pair.model import NORM_EPSILON, ROPE_BASE, SHAPES, Shape
from bench.pair.tokenizer import SPECIAL, read_vocabulary
from bench.pair.train import DEFAULT_FOLDER

CHAT_TEMPLATE = (
    "{% for m in messages %}{{'<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def export(size: str, folder: Path) -> Path:
    """Write {size}-q8_0.gguf beside the weights and return its path."""
    shape = SHAPES["small" if size == "small" else "large"]
    path = folder / f"{size}-q8_0.gguf"
    writer = GGUFWriter(str(path), "llama")
    writer.add_name(f"echo-{size}")
    writer.add_file_type(LlamaFileType.MOSTLY_Q8_0)
    _write_shape(writer, shape)
    _write_vocabulary(writer, folder / "tokenizer.json")
    for name, weight in named_tensors(torch.load(folder / f"{size}.pt"), shape):
        _write_tensor(writer, name, weight)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def named_tensors(weights: dict[str, Tensor], shape: Shape) -> Iterator[tuple[str, Tensor]]:
    """The weights under llama.cpp's names; joint matrices are taken apart."""
    yield "token_embd.weight", weights["embedding.weight"]
    yield "output_norm.weight", weights["norm.weight"]
    yield "output.weight", weights["head.weight"]
    for layer in range(shape.n_layers):
        ours, theirs = f"blocks.{layer}.", f"blk.{layer}."
        query, key, value = weights[ours + "query_key_value.weight"].chunk(3, 0)
        gate, up = weights[ours + "gate_up.weight"].chunk(2, 0)
        yield theirs + "attn_norm.weight", weights[ours + "attention_norm.weight"]
        yield theirs + "attn_q.weight", query
        yield theirs + "attn_k.weight", key
        yield theirs + "attn_v.weight", value
        yield theirs + "attn_output.weight", weights[ours + "attention_out.weight"]
        yield theirs + "ffn_norm.weight", weights[ours + "forward_norm.weight"]
        yield theirs + "ffn_gate.weight", gate
        yield theirs + "ffn_up.weight", up
        yield theirs + "ffn_down.weight", weights[ours + "down.weight"]


def _write_shape(writer: GGUFWriter, shape: Shape) -> None:
    writer.add_context_length(shape.n_context)
    writer.add_embedding_length(shape.width)
    writer.add_block_count(shape.n_layers)
    writer.add_feed_forward_length(shape.hidden)
    writer.add_head_count(shape.n_heads)
    writer.add_head_count_kv(shape.n_heads)
    writer.add_layer_norm_rms_eps(NORM_EPSILON)
    writer.add_rope_freq_base(ROPE_BASE)
    writer.add_rope_dimension_count(shape.head_width)


def _write_vocabulary(writer: GGUFWriter, path: Path) -> None:
    tokens, merges = read_vocabulary(path)
    end_of_text, end_of_turn = tokens.index(SPECIAL[0]), tokens.index(SPECIAL[2])
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types([TokenType.CONTROL if token in SPECIAL else TokenType.NORMAL for token in tokens])
    writer.add_token_merges(merges)
    writer.add_eos_token_id(end_of_turn)
    writer.add_eot_token_id(end_of_turn)
    writer.add_bos_token_id(end_of_text)
    writer.add_pad_token_id(end_of_text)
    writer.add_add_bos_token(False)
    writer.add_chat_template(CHAT_TEMPLATE)


def _write_tensor(writer: GGUFWriter, name: str, weight: Tensor) -> None:
    array = weight.detach().float().numpy().astype(np.float32)
    if array.ndim == 1:  # llama.cpp reads norms only as float32
        writer.add_tensor(name, array)
        return
    kind = GGMLQuantizationType.Q8_0
    writer.add_tensor(name, quantize(array, kind), raw_dtype=kind)


def main() -> None:
    """Export the model that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("size", choices=("small", "large"))
    parser.add_argument("--folder", type=Path, default=DEFAULT_FOLDER)
    options = parser.parse_args()
    path = export(options.size, options.folder)
    print(path, path.stat().st_size, "bytes")


if __name__ == "__main__":
    main()
