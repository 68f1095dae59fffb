"""Embedders and rerankers: the one in process, and those of vendors by name."""

from __future__ import annotations

import os

from ._documents import Hit
from ._engine import native, refuse_on_background
from ._layers import vendor_options
from ._records import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any, Literal

    from typing_extensions import Unpack

    from ._layers import VendorOptions


class EmbedderInfo(Record):
    """What an embedder makes."""

    provider: str
    model: str
    revision: str
    dimension: int
    max_input_tokens: int
    is_normalized: bool


class Embedder:
    """Text → vector."""

    def __init__(self, native_embedder: native.Embedder) -> None:
        self._native = native_embedder

    @property
    def info(self) -> EmbedderInfo:
        """What it makes."""
        return EmbedderInfo._of(self._native.info)

    @property
    def fingerprint(self) -> str:
        """A word that a collection pins: vectors of another one are refused."""
        return self._native.fingerprint

    async def embed(
        self, texts: Iterable[str], kind: Literal["document", "query"] = "document"
    ) -> list[list[float]]:
        """One vector per text, in order."""
        return await self._native.embed(list(texts), kind == "query")

    def embed_sync(
        self, texts: Iterable[str], kind: Literal["document", "query"] = "document"
    ) -> list[list[float]]:
        """The blocking twin of `embed`."""
        refuse_on_background()
        return self._native.embed_sync(list(texts), kind == "query")

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.fingerprint}>"


class MiniLm(Embedder):
    """all-MiniLM-L6-v2 in process: 384 numbers of length 1 per text. No key, no network, no download."""

    def __init__(self, threads: int | None = None) -> None:
        super().__init__(native.Embedder.minilm(threads))


_shared: tuple[int, MiniLm] | None = None


def shared_minilm() -> MiniLm:
    """The one that is used where none is named: its threads are shared. A forked child makes its own."""
    global _shared
    if _shared is None or _shared[0] != os.getpid():
        _shared = (os.getpid(), MiniLm())
    return _shared[1]


class Reranker:
    """Puts hits in a better order. Get one with `stepwell.reranker("vendor/name")`."""

    def __init__(self, native_reranker: native.Reranker) -> None:
        self._native = native_reranker

    async def rerank(self, question: str, hits: Sequence[Hit | str], top_k: int | None = None) -> list[Hit]:
        """The best `top_k` hits, best first, with new scores; all of them without. A text stands for a hit whose
        document's id is its place in the list."""
        best = await self._native.rerank(question, _hits(hits), len(hits) if top_k is None else top_k)
        return [Hit._of(hit) for hit in best]

    def rerank_sync(self, question: str, hits: Sequence[Hit | str], top_k: int | None = None) -> list[Hit]:
        """The blocking twin of `rerank`."""
        refuse_on_background()
        best = self._native.rerank_sync(question, _hits(hits), len(hits) if top_k is None else top_k)
        return [Hit._of(hit) for hit in best]


def _hits(hits: Sequence[Hit | str]) -> list[Any]:
    return [_text_hit(place, hit) if isinstance(hit, str) else hit for place, hit in enumerate(hits)]


def _text_hit(place: int, text: str) -> dict[str, Any]:
    span = {"start": 0, "end": len(text.encode())}
    chunk = {"id": str(place), "document_id": str(place), "number": 0, "text": text, "span": span}
    return {"chunk": chunk, "score": 0.0, "explanation": {"stage": "given"}}


def embedder(
    name: str, *, dimension: int | None = None, width: int | None = None, **options: Unpack[VendorOptions]
) -> Embedder:
    """The embedder of a name such as `voyage/voyage-4` or `openai/text-embedding-3-small`.

    `dimension` asks a model that can for shorter vectors; `width` says how wide a model's own are where the catalogue
    does not know.
    """
    return Embedder(native.Embedder.named(name, *vendor_options(options, dimension=dimension, width=width)))


def reranker(name: str, **options: Unpack[VendorOptions]) -> Reranker:
    """The reranker of a name such as `voyage/rerank-2.5` or `cohere/rerank-v4.0-pro`."""
    return Reranker(native.Reranker.named(name, *vendor_options(options)))


__all__ = ["Embedder", "EmbedderInfo", "MiniLm", "Reranker", "embedder", "reranker", "shared_minilm"]
