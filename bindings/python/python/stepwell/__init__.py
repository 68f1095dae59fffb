"""stepwell: models, tools, durable agents and hybrid retrieval in one engine.

    import stepwell

    model = stepwell.Scripted("A ledger is a book of accounts.")
    print(model.chat_sync("What is a ledger?").text)

Every method that waits is `async`; its blocking twin has the same name with `_sync` and also works inside a
running event loop. Errors are classes by `code`, all of them `StepwellError`.
"""

# Nothing is imported here but the table of names: each part loads at its first use, so `import stepwell` costs
# next to nothing in a program that may never call it.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from ._errors import (
        CODES as CODES,
    )
else:
    _PARTS = {
        "_errors": (
            "BudgetExceededError CODES CancelledError ConflictError DamagedError DiskFullError EmbedderMismatchError "
            "ForeignError HostError InternalError InvalidGraphError InvalidInputError InvalidResponseError "
            "InvalidUpdateError IoError LimitExceededError LockedError MissingKeyError NodeFailedError NotFoundError "
            "OverloadedError ProviderError QuotaExceededError RateLimitedError RejectedError StepLimitError "
            "StepwellError StoreError StreamTruncatedError TimeoutError ToolError ToolFailed ToolFailedError ToolRetry "
            "TransportError UnauthorizedError UnknownVersionError UnreadableError UnsupportedError"
        ),
        "_records": (
            "ChatResponse Chunk Citation Data Document Explanation Filter Heading Hit LegScore Media Message ModelInfo "
            "Opaque PageSpan Part RateLimit Reasoning Record Refusal Span Text ToolCall ToolResult Unknown Usage Warning"
        ),
        "_events": (
            "CitationEvent DataEvent Finish MessageStart PartEvent Ping RateLimitsEvent RawEvent ReasoningDelta "
            "ReasoningEnd ReasoningStart StreamEvent TextDelta TextEnd TextStart ToolCallDelta ToolCallEnd "
            "ToolCallStart UnknownEvent UsageEvent WarningEvent"
        ),
        "_models": "ChatModel ChatStream Extractive HostModel Scripted SyncChatStream model",
        "_collection": (
            "AddEvent AddProgress AddReport Collection CollectionStats DocumentEntry DocumentSkipped Embedder EmbedderInfo "
            "MiniLm"
        ),
        "_tools": "Tool ToolContext tool",
    }
    _HOME = {name: part for part, names in _PARTS.items() for name in names.split()}
    __all__ = sorted(_HOME)

    def __getattr__(name):
        home = _HOME.get(name)
        if home is None:
            if name == "__version__":
                from ._engine import native

                return native.__version__
            raise AttributeError(f"module 'stepwell' has no attribute {name!r}")
        from importlib import import_module

        value = getattr(import_module(f".{home}", __name__), name)
        globals()[name] = value
        return value

    def __dir__():
        return sorted({*globals(), *_HOME, "__version__"})
