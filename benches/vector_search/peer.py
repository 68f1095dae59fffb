"""A peer's graph of vectors, one thread, asked over stdin so that its turns alternate with ours.

usage: peer.py ENGINE FOLDER      (hnswlib, faiss or usearch; base.npy, questions.npy, truth.npy)
  build            answers: CPU seconds, resident bytes per vector
  search EF        answers: CPU seconds for all questions, recall@10
All questions go in one call: Python's part per question is nothing.
"""

import sys
import time

import numpy as np

LINKS, EF_CONSTRUCTION, K = 16, 200, 10


class Hnswlib:
    def __init__(self, base):
        import hnswlib

        self.index = hnswlib.Index("ip", base.shape[1])

    def build(self, base):
        self.index.init_index(len(base), ef_construction=EF_CONSTRUCTION, M=LINKS)
        self.index.set_num_threads(1)
        self.index.add_items(base, num_threads=1)

    def search(self, questions, ef):
        self.index.set_ef(ef)
        return self.index.knn_query(questions, k=K, num_threads=1)[0]


class Faiss:
    def __init__(self, base):
        import faiss

        faiss.omp_set_num_threads(1)
        self.index = faiss.IndexHNSWFlat(base.shape[1], LINKS, faiss.METRIC_INNER_PRODUCT)

    def build(self, base):
        self.index.hnsw.efConstruction = EF_CONSTRUCTION
        self.index.add(base)

    def search(self, questions, ef):
        self.index.hnsw.efSearch = ef
        return self.index.search(questions, K)[1]


class Usearch:
    def __init__(self, base):
        from usearch.index import Index

        self.index = Index(
            ndim=base.shape[1], metric="ip", dtype="f32", connectivity=LINKS, expansion_add=EF_CONSTRUCTION
        )

    def build(self, base):
        self.index.add(np.arange(len(base)), base, threads=1)

    def search(self, questions, ef):
        self.index.expansion_search = ef
        return self.index.search(questions, K, threads=1).keys


def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096


engine, folder = sys.argv[1:]
base, questions, truth = (np.load(f"{folder}/{name}.npy") for name in ("base", "questions", "truth"))
peer = {"hnswlib": Hnswlib, "faiss": Faiss, "usearch": Usearch}[engine](base)
for line in sys.stdin:
    command, *numbers = line.split()
    before, start = resident(), time.process_time()
    if command == "build":
        peer.build(base)
        took = time.process_time() - start
        print(took, (resident() - before) / len(base), flush=True)
    elif command == "search":
        found = peer.search(questions, int(numbers[0]))
        took = time.process_time() - start
        shared = sum(len(set(a) & set(b)) for a, b in zip(found.tolist(), truth.tolist()))
        print(took, shared / truth.size, flush=True)
