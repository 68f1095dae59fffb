"""hnswlib, one thread, asked over stdin so that its turns alternate with ours.

usage: peer.py FOLDER      (base.npy, questions.npy, truth.npy)
  build            answers: CPU seconds, resident bytes per vector
  search EF        answers: CPU seconds for all questions, recall@10
All questions go in one call: Python's part per question is nothing.
"""

import sys
import time

import hnswlib
import numpy as np

folder = sys.argv[1]
base, questions, truth = (np.load(f"{folder}/{name}.npy") for name in ("base", "questions", "truth"))


def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096


index = hnswlib.Index("ip", base.shape[1])
for line in sys.stdin:
    command, *numbers = line.split()
    before, start = resident(), time.process_time()
    if command == "build":
        index.init_index(len(base), ef_construction=200, M=16)
        index.set_num_threads(1)
        index.add_items(base, num_threads=1)
        took = time.process_time() - start
        print(took, (resident() - before) / len(base), flush=True)
    elif command == "search":
        index.set_ef(int(numbers[0]))
        start = time.process_time()
        found, _ = index.knn_query(questions, k=10, num_threads=1)
        took = time.process_time() - start
        shared = sum(len(set(a) & set(b)) for a, b in zip(found.tolist(), truth.tolist()))
        print(took, shared / truth.size, flush=True)
