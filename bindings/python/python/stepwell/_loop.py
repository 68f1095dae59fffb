"""One event loop on a thread of its own: where coroutines of *sync* calls run (async tools, async models).

A sync call blocks its thread, and that thread may itself run an event loop (a notebook): its coroutines need
another one. The thread starts with the first such call.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import threading

from ._engine import native

#: Seconds that coroutines get to end their work at exit.
_GRACE = 0.5
_lock = threading.Lock()
_state: _Background | None = None


class _Background:
    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.bridge: native.LoopBridge | None = None
        self.started = threading.Event()
        self.thread = threading.Thread(target=self._run, name="stepwell-loop", daemon=True)
        self.thread.start()
        self.started.wait()

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.call_soon(self._begin)
        try:
            self.loop.run_forever()
            tasks = asyncio.all_tasks(self.loop)
            for task in tasks:
                task.cancel()
            self.loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
            self.loop.run_until_complete(self.loop.shutdown_asyncgens())
        finally:
            self.loop.close()

    def _begin(self) -> None:
        self.bridge = native.current_bridge()
        self.started.set()


def background() -> native.LoopBridge:
    """The bridge of the background loop."""
    global _state
    with _lock:
        if _state is None:
            _state = _Background()
        bridge = _state.bridge
    if bridge is None:
        raise RuntimeError("the background loop did not start")
    return bridge


def is_background_thread() -> bool:
    """Whether this code runs on the background loop."""
    state = _state
    return state is not None and state.thread is threading.current_thread()


def _stop() -> None:
    state = _state
    if state is not None and not state.loop.is_closed():
        state.loop.call_soon_threadsafe(state.loop.stop)
        state.thread.join(_GRACE)


def _forget() -> None:
    """In a forked child the thread is gone, and the lock may be held by one that is gone too."""
    global _lock, _state
    _lock, _state = threading.Lock(), None


atexit.register(_stop)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
