"""Streams for `async for` and `for`.

The native stream gives everything that is ready in one `take()`; an item leaves it only there, so a wait that is
cancelled loses nothing: `asyncio.wait_for(anext(stream), 1)` may time out and be repeated.
"""

from __future__ import annotations

from collections import deque

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from typing import Any, Generic, TypeVar

    from typing_extensions import Self

    from . import _native

    T = TypeVar("T")
else:

    class Generic:
        def __class_getitem__(cls, _):
            return cls

    T = None


class _Stream(Generic[T]):
    """What both kinds of stream share."""

    def __init__(self, native: _native.Stream, build: Callable[[Any], T]) -> None:
        self._native = native
        self._build = build
        self._ready: deque[Any] = deque()
        self._is_over = False

    def _refill(self) -> bool:
        """Whether something is ready now."""
        if self._ready:
            return True
        if self._is_over:
            return False
        items = self._native.take()
        if items is None:
            self._is_over = True
            return False
        self._ready.extend(items)
        return bool(items)

    def _close(self) -> None:
        self._is_over = True
        self._ready.clear()
        self._native.close()

    @property
    def is_closed(self) -> bool:
        """Whether nothing more will come."""
        return self._is_over or (self._native.is_closed and not self._ready)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {'closed' if self.is_closed else 'open'}>"


class AsyncStream(_Stream[T]):
    """Items as they come: an async iterator and an async context manager; leaving it stops the engine's side."""

    async def __anext__(self) -> T:
        while not self._refill():
            if self._is_over:
                raise StopAsyncIteration
            await self._native.wait()
        return self._build(self._ready.popleft())

    async def __aiter__(self) -> AsyncIterator[T]:
        # A generator is three times as fast as `__anext__`; both take from the same place.
        ready, build = self._ready, self._build
        while True:
            while ready:
                yield build(ready.popleft())
            if not self._refill():
                if self._is_over:
                    return
                await self._native.wait()

    async def aclose(self) -> None:
        """Stops the engine's side and forgets what is left."""
        self._close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._close()


class SyncStream(_Stream[T]):
    """Items as they come: an iterator and a context manager; leaving it stops the engine's side."""

    def __next__(self) -> T:
        while not self._refill():
            if self._is_over:
                raise StopIteration
            self._native.wait_sync()
        return self._build(self._ready.popleft())

    def __iter__(self) -> Iterator[T]:
        return self

    def close(self) -> None:
        """Stops the engine's side and forgets what is left."""
        self._close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()
