"""Loads the engine once, and ties it to fork and exit."""

from __future__ import annotations

import atexit
import os
import sys

from . import _native as native

atexit.register(native.shutdown)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=native.before_fork,
        after_in_parent=native.after_fork_in_parent,
        after_in_child=native.after_fork_in_child,
    )


def refuse_on_background() -> None:
    """A sync call on the background loop's own thread would wait for itself."""
    loop = sys.modules.get("stepwell._loop")  # not loaded: there is no such thread
    if loop is not None and loop.is_background_thread():
        from ._errors import UnsupportedError

        raise UnsupportedError(
            "an async tool of a sync call cannot make sync calls itself; await the async method instead"
        )


__all__ = ["native", "refuse_on_background"]
