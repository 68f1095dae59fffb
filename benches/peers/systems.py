"""Ingest N passages with given vectors and answer hybrid queries. usage: systems.py POOL.json POOL.npy WORK_DIR [engine ...]
Engines: lancedb, glue (tantivy + hnswlib + rank fusion). Reports wall and CPU time as name=value pairs."""
import json, os, shutil, sys, time
import numpy as np
os.environ.setdefault("LANCE_LOG", "error"); os.environ.setdefault("ANONYMIZED_TELEMETRY", "False")
texts = json.load(open(sys.argv[1])); V = np.load(sys.argv[2]).astype(np.float32); W = sys.argv[3]
N, NQ = int(os.environ.get("N", "10000")), 200
rng = np.random.default_rng(3)
# texts and vectors need not be aligned for timing; queries are rows left out of the index of both
docs, dv = texts[:N], V[:N]; qt, qv = texts[-NQ:], V[-NQ:]
def T(): return time.perf_counter() + 1j * time.process_time()
def du(d): return sum(os.path.getsize(os.path.join(p, f)) for p, _, fs in os.walk(d) for f in fs)


def show(name, ingest, lat, size, opened):
    lat = np.array(lat) * 1e3
    print(f"{name:10} ingest_wall={ingest.real:.1f}s ingest_cpu={ingest.imag:.1f}s docs/cpu_s={N / max(ingest.imag, 1e-3):.0f} q_cpu_ms={lat.imag.mean():.2f} p50={np.percentile(lat.real, 50):.2f}ms p99={np.percentile(lat.real, 99):.2f}ms "
          f"bytes={size} bytes_per_doc={size / N:.0f} wall={opened.real * 1e3:.0f}ms cold_open_cpu={opened.imag * 1e3:.0f}ms", flush=True)


def rrf(a, b, k=60):
    s = {}
    for l in (a, b):
        for i, x in enumerate(l): s[x] = s.get(x, 0) + 1 / (k + i + 1)
    return sorted(s, key=lambda x: -s[x])[:10]


def glue():
    import hnswlib, tantivy as tv
    d = f"{W}/glue"; shutil.rmtree(d, ignore_errors=True); os.makedirs(d + "/t")
    sb = tv.SchemaBuilder(); sb.add_integer_field("id", stored=True, indexed=True, fast=True); sb.add_text_field("text", stored=True, tokenizer_name="en_stem"); sch = sb.build()
    t = T(); ix = tv.Index(sch, path=d + "/t"); w = ix.writer(heap_size=60_000_000, num_threads=1)
    for i, x in enumerate(docs): w.add_document(tv.Document(id=i, text=x))
    w.commit(); w.wait_merging_threads()
    h = hnswlib.Index("ip", 384); h.init_index(N, ef_construction=200, M=16); h.add_items(dv, num_threads=2); h.save_index(d + "/h"); ing = T() - t
    def query(ix, h, q, v):
        s = ix.searcher(); a = [s.doc(x)["id"][0] for _, x in s.search(ix.parse_query_lenient(q, ["text"])[0], 100).hits]
        return rrf(a, h.knn_query(v, k=100, num_threads=1)[0][0].tolist())
    t = T(); ix2 = tv.Index.open(d + "/t"); h2 = hnswlib.Index("ip", 384); h2.load_index(d + "/h"); h2.set_ef(128); query(ix2, h2, qt[0], qv[0]); op = T() - t
    lat = []
    for q, v in zip(qt, qv): t = T(); query(ix2, h2, q, v); lat.append(T() - t)
    show("glue", ing, lat, du(d), op)


def lance():
    import lancedb, pyarrow as pa
    from lancedb.rerankers import RRFReranker
    d = f"{W}/lance"; shutil.rmtree(d, ignore_errors=True); db = lancedb.connect(d)
    t = T(); tb = db.create_table("t", pa.table({"id": pa.array(range(N)), "text": docs, "vector": pa.FixedSizeListArray.from_arrays(pa.array(dv.ravel()), 384)}))
    tb.create_fts_index("text"); tb.create_index(metric="dot", index_type="IVF_HNSW_SQ", num_partitions=1, m=16, ef_construction=200); ing = T() - t
    rr = RRFReranker()
    def query(tb, q, v): return tb.search(query_type="hybrid").vector(v).text("".join(c if c.isalnum() else " " for c in q)).rerank(rr).limit(10).to_list()
    t = T(); tb2 = lancedb.connect(d).open_table("t"); query(tb2, qt[0], qv[0]); op = T() - t
    lat = []
    for q, v in zip(qt, qv): t = T(); query(tb2, q, v); lat.append(T() - t)
    show("lancedb", ing, lat, du(d), op)


E = {"glue": glue, "lancedb": lance}
os.makedirs(W, exist_ok=True)
for e in sys.argv[4:] or E:
    try: E[e]()
    except Exception as x: print(e, "FAILED", type(x).__name__, str(x)[:200], flush=True)
