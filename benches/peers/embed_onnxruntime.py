"""onnxruntime on the very model that is built into stepwell, one thread: tokens per CPU second.
usage: embed_onnxruntime.py MODEL.onnx TOKENIZER.json TEXTS.json   - prints `onnxruntime tokens_per_cpu_s=V tokens=N`

One text per run, as we run it: padding it into batches is slower for onnxruntime too."""
import json
import os
import sys
import time

os.environ["OMP_NUM_THREADS"] = os.environ["RAYON_NUM_THREADS"] = "1"
import numpy as np
import onnxruntime
from tokenizers import Tokenizer

model, tokenizer, texts = sys.argv[1:]
tok = Tokenizer.from_file(tokenizer)
tok.enable_truncation(258)
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = options.inter_op_num_threads = 1
options.log_severity_level = 3
session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
texts = json.load(open(texts, encoding="utf-8"))


def run():
    tokens = 0
    for text in texts:
        ids = np.array([tok.encode(text).ids], np.int64)
        session.run(None, {"input_ids": ids})
        tokens += ids.size
    return tokens


run()  # the first pass warms caches, ours too
begun = time.process_time()
tokens = run()
print(f"onnxruntime tokens_per_cpu_s={tokens / (time.process_time() - begun):.0f} tokens={tokens}")
