"""How is the bundled embedding model made from the published one?

    python bench/embedder/build_onnx.py MODEL_DIR OUT_DIR

MODEL_DIR holds `config.json` and `model.safetensors` of sentence-transformers/all-MiniLM-L6-v2. OUT_DIR receives
`all-minilm-l6-v2.onnx` (float32) and `all-minilm-l6-v2-int8.onnx`, the one that the package ships. Needs `onnx`,
`safetensors` and `onnxruntime`, but no torch: the graph of a BERT encoder is short enough to write down.

Source of the architecture: Devlin et al. 2018, https://arxiv.org/abs/1810.04805
"""

import argparse
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx  # type: ignore[import-not-found]  # needed by this script only
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic
from safetensors.numpy import load_file  # type: ignore[import-not-found]  # needed by this script only

NAME = "all-minilm-l6-v2"
OPSET = 17
"""The first opset with LayerNormalization."""
MASKED = -1e9
"""Added to the attention score of padding; its softmax is then exactly 0 in float32."""


@dataclass(frozen=True, slots=True)
class Shape:
    """The numbers that define a BERT encoder."""

    n_layers: int
    n_heads: int
    width: int
    """Length of a token's vector."""
    layer_norm_eps: float

    @property
    def head_width(self) -> int:
        """Length of a token's vector in one attention head."""
        return self.width // self.n_heads


class Graph:
    """Collects the nodes and constants of an ONNX graph; every method returns the name of a value in it."""

    def __init__(self, weights: Mapping[str, np.ndarray]) -> None:
        self.nodes: list[Any] = []
        self.constants: dict[str, Any] = {}
        self._weights = weights

    def constant(self, name: str, value: Any) -> str:
        """A named constant; the same name always means the same value."""
        if name not in self.constants:
            self.constants[name] = numpy_helper.from_array(np.array(value, order="C"), name)
        return name

    def node(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """An operation with one output."""
        name = f"{kind}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], name=name, **attributes))
        return name

    def weight(self, name: str) -> str:
        """A published weight as it is."""
        return self.constant(name, self._weights[name].astype(np.float32))

    def segment(self) -> str:
        """The embedding of the first segment: there is no second one, so it is a constant, (width,)."""
        return self.constant("segment", self._weights["embeddings.token_type_embeddings.weight"][0].astype(np.float32))

    def linear(self, x: str, name: str) -> str:
        """x W^T + b; published matrices have shape (out, in)."""
        matrix = self.constant(f"{name}.weight", self._weights[f"{name}.weight"].T.astype(np.float32))
        return self.node("Add", self.node("MatMul", x, matrix), self.weight(f"{name}.bias"))

    def layer_norm(self, x: str, name: str, epsilon: float) -> str:
        """Normalised over the last axis, scaled and shifted."""
        scale, shift = self.weight(f"{name}.weight"), self.weight(f"{name}.bias")
        return self.node("LayerNormalization", x, scale, shift, axis=-1, epsilon=epsilon)


def embedded_tokens(graph: Graph, shape: Shape) -> str:
    """Sum of word, position and segment embeddings, normalised, (batch, n_tokens, width)."""
    words = graph.node("Gather", graph.weight("embeddings.word_embeddings.weight"), "input_ids")
    n_tokens = graph.node(
        "Squeeze",
        graph.node("Gather", graph.node("Shape", "input_ids"), graph.constant("axis_tokens", np.array([1]))),
    )
    positions = graph.node("Range", graph.constant("zero", np.int64(0)), n_tokens, graph.constant("step", np.int64(1)))
    places = graph.node("Gather", graph.weight("embeddings.position_embeddings.weight"), positions)
    total = graph.node("Add", graph.node("Add", words, places), graph.segment())
    return graph.layer_norm(total, "embeddings.LayerNorm", shape.layer_norm_eps)


def attention_bias(graph: Graph, mask: str) -> str:
    """0 where a token may be attended to and MASKED where it is padding, (batch, 1, 1, n_tokens)."""
    wide = graph.node("Unsqueeze", mask, graph.constant("axes_heads", np.array([1, 2])))
    is_padding = graph.node("Sub", graph.constant("one", np.float32(1.0)), wide)
    return graph.node("Mul", is_padding, graph.constant("masked", np.float32(MASKED)))


def attention(graph: Graph, shape: Shape, x: str, bias: str, layer: str) -> str:
    """Multi-head self-attention before its output projection, (batch, n_tokens, width)."""
    split = graph.constant("split_heads", np.array([0, 0, shape.n_heads, shape.head_width]))

    def heads(part: str, permutation: list[int]) -> str:
        projected = graph.linear(x, f"{layer}.attention.self.{part}")
        return graph.node("Transpose", graph.node("Reshape", projected, split), perm=permutation)

    query = heads("query", [0, 2, 1, 3])  # (batch, n_heads, n_tokens, head_width)
    key = heads("key", [0, 2, 3, 1])  # (batch, n_heads, head_width, n_tokens)
    value = heads("value", [0, 2, 1, 3])  # (batch, n_heads, n_tokens, head_width)
    scale = graph.constant("scale", np.float32(shape.head_width**-0.5))
    scores = graph.node("Add", graph.node("Mul", graph.node("MatMul", query, key), scale), bias)
    mixed = graph.node("MatMul", graph.node("Softmax", scores, axis=-1), value)
    joined = graph.constant("join_heads", np.array([0, 0, shape.width]))
    return graph.node("Reshape", graph.node("Transpose", mixed, perm=[0, 2, 1, 3]), joined)


def gelu(graph: Graph, x: str) -> str:
    """x / 2 * (1 + erf(x / sqrt 2)), the exact form that the model was trained with."""
    half, one = graph.constant("half", np.float32(0.5)), graph.constant("one", np.float32(1.0))
    erf = graph.node("Erf", graph.node("Mul", x, graph.constant("sqrt_half", np.float32(2**-0.5))))
    return graph.node("Mul", graph.node("Mul", x, half), graph.node("Add", erf, one))


def encoder_layer(graph: Graph, shape: Shape, x: str, bias: str, layer: str) -> str:
    """One transformer layer, (batch, n_tokens, width)."""
    attended = graph.linear(attention(graph, shape, x, bias, layer), f"{layer}.attention.output.dense")
    x = graph.layer_norm(graph.node("Add", x, attended), f"{layer}.attention.output.LayerNorm", shape.layer_norm_eps)
    widened = gelu(graph, graph.linear(x, f"{layer}.intermediate.dense"))
    narrowed = graph.linear(widened, f"{layer}.output.dense")
    return graph.layer_norm(graph.node("Add", x, narrowed), f"{layer}.output.LayerNorm", shape.layer_norm_eps)


def mean_of_tokens(graph: Graph, x: str, mask: str) -> str:
    """Mean over the tokens that are not padding, (batch, width)."""
    axis = graph.constant("axis_tokens", np.array([1]))
    column = graph.node("Unsqueeze", mask, graph.constant("axis_last", np.array([-1])))  # (batch, n_tokens, 1)
    total = graph.node("ReduceSum", graph.node("Mul", x, column), axis, keepdims=0)
    return graph.node("Div", total, graph.node("ReduceSum", column, axis, keepdims=0))


def build(shape: Shape, weights: Mapping[str, np.ndarray]) -> Any:
    """The model as a checked ONNX proto: `input_ids`, `attention_mask` to the unit vector `e`."""
    graph = Graph(weights)
    mask = graph.node("Cast", "attention_mask", to=TensorProto.FLOAT)
    x, bias = embedded_tokens(graph, shape), attention_bias(graph, mask)
    for index in range(shape.n_layers):
        x = encoder_layer(graph, shape, x, bias, f"encoder.layer.{index}")
    pooled = mean_of_tokens(graph, x, mask)
    graph.nodes.append(helper.make_node("LpNormalization", [pooled], ["e"], axis=-1, p=2))
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "n_tokens"])
        for name in ("input_ids", "attention_mask")
    ]
    output = helper.make_tensor_value_info("e", TensorProto.FLOAT, ["batch", shape.width])
    proto = helper.make_graph(graph.nodes, NAME, inputs, [output], list(graph.constants.values()))
    model = helper.make_model(proto, opset_imports=[helper.make_opsetid("", OPSET)])
    model.ir_version = 9  # readable by onnxruntime 1.16 and later
    onnx.checker.check_model(model)
    return model


def read_shape(path: Path) -> Shape:
    """What `config.json` says of the encoder."""
    config = json.loads(path.read_text())
    return Shape(
        n_layers=config["num_hidden_layers"],
        n_heads=config["num_attention_heads"],
        width=config["hidden_size"],
        layer_norm_eps=config["layer_norm_eps"],
    )


def convert(model_dir: Path, out_dir: Path) -> Path:
    """Write both models and return the path of the int8 one."""
    full, small = out_dir / f"{NAME}.onnx", out_dir / f"{NAME}-int8.onnx"
    out_dir.mkdir(parents=True, exist_ok=True)
    onnx.save(build(read_shape(model_dir / "config.json"), load_file(model_dir / "model.safetensors")), full)
    # Per channel: one scale per output column costs nothing at run time and loses less.
    quantize_dynamic(full, small, weight_type=QuantType.QInt8, per_channel=True)
    return small


def main() -> None:
    """Parse the arguments and convert."""
    parser = argparse.ArgumentParser(description="Make the bundled embedding model from the published one.")
    parser.add_argument("model_dir", type=Path, help="holds config.json and model.safetensors")
    parser.add_argument("out_dir", type=Path, help="receives the float32 and the int8 model")
    arguments = parser.parse_args()
    written = convert(arguments.model_dir, arguments.out_dir)
    print(f"{written} ({written.stat().st_size / 1e6:.1f} MB)")


if __name__ == "__main__":
    main()
