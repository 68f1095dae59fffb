"""What the tests share: running a coroutine with a limit, a program in a process of its own, and small models."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, NamedTuple

import pytest
import stepwell


class Ended(NamedTuple):
    code: int
    out: str
    err: str
    seconds: float


@pytest.fixture
def run() -> Callable[[Coroutine[Any, Any, Any]], Any]:
    def run(work: Coroutine[Any, Any, Any], timeout: float = 20) -> Any:
        return asyncio.run(asyncio.wait_for(work, timeout))

    return run


@pytest.fixture
def program() -> Callable[..., Ended]:
    """Runs a program in its own interpreter."""

    def program(code: str, timeout: float = 30, **env: str) -> Ended:
        import os

        started = time.perf_counter()
        ended = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=timeout, env={**os.environ, **env}
        )
        return Ended(ended.returncode, ended.stdout.strip(), ended.stderr.strip(), time.perf_counter() - started)

    return program


@pytest.fixture
def counting() -> Callable[..., stepwell.ChatModel]:
    """A model that counts to `n`, one text piece per number."""

    def counting(n: int, every: float = 0, fail_at: int | None = None) -> stepwell.ChatModel:
        async def count(_: dict[str, Any]) -> AsyncIterator[str]:
            for number in range(n):
                if number == fail_at:
                    error = stepwell.RateLimitedError("slow down")
                    error.retry_after = 1.5
                    raise error
                if every:
                    await asyncio.sleep(every)
                yield f"{number} "

        return stepwell.HostModel(count, "test/counting")

    return counting
