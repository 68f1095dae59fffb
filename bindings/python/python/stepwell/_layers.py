"""What models share: rate limiters, breakers, budgets, caches, cassettes; and the options of layers."""

from __future__ import annotations

import os

from ._engine import native

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any, Literal, TypeAlias

    from typing_extensions import TypedDict, Unpack

    from ._runs import Spend

    class RetryOptions(TypedDict, total=False):
        """How often and when to ask again. Times are in seconds."""

        max_retries: int
        max_malformed_retries: int
        first_delay: float
        max_delay: float
        max_server_delay: float
        deadline: float | None
        seed: int | None

    class TimeoutOptions(TypedDict, total=False):
        """How long to wait for what, in seconds; `None` is no limit."""

        first_event: float | None
        idle: float | None
        pings_count: bool
        total: float | None

    class RateLimitOptions(TypedDict, total=False):
        """What an account may send; what is not said is not limited here, and the vendor's own figures are followed."""

        requests_per_minute: int | None
        tokens_per_minute: int | None
        max_concurrent: int | None
        expected_output_tokens: int
        is_adaptive: bool
        max_wait: float | None
        max_waiting: int

    class BreakerOptions(TypedDict, total=False):
        """When an endpoint counts as down, and for how long it is left alone; times are in seconds."""

        failures: int
        window: float
        open_for: float

    FallbackReason: TypeAlias = Literal[
        "quota", "rate_limit", "failure", "invalid_response", "context_window", "refusal", "misconfiguration"
    ]

    class FallbackOptions(TypedDict, total=False):
        """When the next model is asked."""

        reasons: Sequence[FallbackReason]
        patience: float
        after_output: Literal["ask", "prefill"] | None

    class CacheOptions(TypedDict, total=False):
        """What is kept, and for how long; times are in seconds."""

        time_to_live: float | None
        max_bytes: int
        shares_calls: bool
        max_wait: float

    class BudgetLimits(TypedDict, total=False):
        """Upper bounds; what is not said is unbounded. Money is in millionths of a US dollar."""

        micro_usd: int | None
        tokens: int | None
        calls: int | None
        time_ms: int | None

    class HttpOptions(TypedDict, total=False):
        """Timers in seconds, limits in bytes, proxy, authorities as PEM."""

        connect_timeout: float
        first_event_timeout: float
        idle_timeout: float
        total_timeout: float
        max_response_bytes: int
        max_event_bytes: int
        max_line_bytes: int
        proxy: str | None
        root_certificates: Sequence[str]

    class VendorOptions(TypedDict, total=False):
        """How a vendor is asked; what is not said comes from the environment (`ANTHROPIC_API_KEY`, `OPENAI_BASE_URL` …)."""

        api_key: str | None
        base_url: str | None
        headers: Mapping[str, str]
        http: HttpOptions
        cassette: Cassette | None

    Chunks: TypeAlias = Literal["recorded", "whole", "bytes"] | dict[Literal["random"], dict[Literal["seed"], int]]
    #: `cut_at`, `reset_at`, `stall_at` with a count of bytes; `status` with a status; `duplicate_start`.
    Fault: TypeAlias = Literal["duplicate_start"] | dict[str, Any]


def vendor_options(options: VendorOptions, **more: Any) -> tuple[dict[str, Any] | None, Any]:
    """What goes to the engine: the options as data, and the cassette. Nothing said is `None`."""
    cassette = options.get("cassette")
    data = {key: value for key, value in options.items() if key != "cassette" and value is not None}
    data.update((key, value) for key, value in more.items() if value is not None)
    return (data or None), (None if cassette is None else cassette._native)


class RateLimiter:
    """What an account may send, shared by all models it is around: `model.with_rate_limit(limiter)`."""

    def __init__(self, **options: Unpack[RateLimitOptions]) -> None:
        self._native = native.RateLimiter(options)

    def load(self, model: str) -> tuple[int, int]:
        """How many calls of `vendor/model` wait, and how many run."""
        return self._native.load(model)


class Breaker:
    """Which endpoints are down, shared by all models it is around: `model.with_breaker(breaker)`."""

    def __init__(self, **options: Unpack[BreakerOptions]) -> None:
        self._native = native.Breaker(options)


class Budget:
    """What may be spent, shared by all models it is around: `model.with_budget(budget)`."""

    def __init__(self, **limits: Unpack[BudgetLimits]) -> None:
        self._native = native.Budget(limits)

    @property
    def spent(self) -> Spend:
        """What was spent so far."""
        from ._runs import Spend

        return Spend._of(self._native.spent)


class Cache:
    """Where answers are kept, so that they can be given again: `model.with_cache(cache)`."""

    def __init__(self, native_cache: native.Cache) -> None:
        self._native = native_cache

    @classmethod
    def memory(cls) -> Cache:
        """For as long as the process lives."""
        return cls(native.Cache.memory())

    @classmethod
    def sqlite(cls, path: str | os.PathLike[str]) -> Cache:
        """In a SQLite file, made when it is not there."""
        return cls(native.Cache.sqlite(os.fspath(path)))


class Cassette:
    """Calls to vendors recorded to a file, or played from it, offline and without a key.

        cassette = Cassette.record_or_play("tests/ledger.jsonl")
        model = stepwell.model("anthropic/claude-sonnet-5", cassette=cassette)

    `chunks` says how played bodies are cut, `keeps_time` whether pieces come at their recorded times, and `faults`
    which played call (from 0) goes wrong, and how.
    """

    def __init__(self, mode: str, path: str | os.PathLike[str], options: dict[str, Any]) -> None:
        self._native = native.Cassette(mode, os.fspath(path), options)

    @classmethod
    def record(cls, path: str | os.PathLike[str]) -> Cassette:
        """Records to a new file."""
        return cls("record", path, {})

    @classmethod
    def play(
        cls,
        path: str | os.PathLike[str],
        *,
        chunks: Chunks = "recorded",
        keeps_time: bool = False,
        faults: Sequence[tuple[int, Fault]] = (),
    ) -> Cassette:
        """Plays a recorded file."""
        return cls("play", path, _playing(chunks, keeps_time, faults))

    @classmethod
    def record_or_play(
        cls,
        path: str | os.PathLike[str],
        *,
        chunks: Chunks = "recorded",
        keeps_time: bool = False,
        faults: Sequence[tuple[int, Fault]] = (),
    ) -> Cassette:
        """Plays the file where it is there, records it where it is not: delete it to record anew."""
        return cls("record_or_play", path, _playing(chunks, keeps_time, faults))

    @property
    def is_playing(self) -> bool:
        """Whether it plays, and so needs no key."""
        return self._native.is_playing


def _playing(chunks: Chunks, keeps_time: bool, faults: Sequence[tuple[int, Fault]]) -> dict[str, Any]:
    return {"chunks": chunks, "keeps_time": keeps_time, "faults": [list(fault) for fault in faults]}


__all__ = ["Breaker", "Budget", "Cache", "Cassette", "RateLimiter", "vendor_options"]
