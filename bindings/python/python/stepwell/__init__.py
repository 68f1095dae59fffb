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
    from ._agent import (
        Agent as Agent,
        AgentTool as AgentTool,
        DropToolOutputs as DropToolOutputs,
        RetrieverTool as RetrieverTool,
        RunStore as RunStore,
        RunStream as RunStream,
        Summarise as Summarise,
        SyncRunStream as SyncRunStream,
        Trim as Trim,
        register_agent as register_agent,
        retriever_tool as retriever_tool,
    )
    from ._collection import (
        AddEvent as AddEvent,
        AddProgress as AddProgress,
        AddReport as AddReport,
        Collection as Collection,
        CollectionStats as CollectionStats,
        Coverage as Coverage,
        DocumentEntry as DocumentEntry,
        DocumentSkipped as DocumentSkipped,
        Explained as Explained,
        FailedDocument as FailedDocument,
        FileSkipped as FileSkipped,
        IndexStats as IndexStats,
        RenamedFile as RenamedFile,
        SegmentSearch as SegmentSearch,
        SyncEvent as SyncEvent,
        SyncPlan as SyncPlan,
        SyncProgress as SyncProgress,
        SyncReport as SyncReport,
        VectorField as VectorField,
        VectorFieldStats as VectorFieldStats,
    )
    from ._documents import (
        Chunk as Chunk,
        Document as Document,
        Explanation as Explanation,
        Filter as Filter,
        Heading as Heading,
        Hit as Hit,
        LegScore as LegScore,
        PageSpan as PageSpan,
    )
    from ._embedders import (
        Embedder as Embedder,
        EmbedderInfo as EmbedderInfo,
        MiniLm as MiniLm,
        Reranker as Reranker,
        embedder as embedder,
        reranker as reranker,
    )
    from ._errors import (
        BudgetExceededError as BudgetExceededError,
        CODES as CODES,
        CancelledError as CancelledError,
        ConflictError as ConflictError,
        DamagedError as DamagedError,
        DiskFullError as DiskFullError,
        EmbedderMismatchError as EmbedderMismatchError,
        ForeignError as ForeignError,
        HostError as HostError,
        InternalError as InternalError,
        InterruptedRunError as InterruptedRunError,
        InvalidGraphError as InvalidGraphError,
        InvalidInputError as InvalidInputError,
        InvalidResponseError as InvalidResponseError,
        InvalidUpdateError as InvalidUpdateError,
        IoError as IoError,
        LimitExceededError as LimitExceededError,
        LockedError as LockedError,
        MissingKeyError as MissingKeyError,
        NodeFailedError as NodeFailedError,
        NotFoundError as NotFoundError,
        OverloadedError as OverloadedError,
        PinMismatchError as PinMismatchError,
        ProviderError as ProviderError,
        QuotaExceededError as QuotaExceededError,
        RateLimitedError as RateLimitedError,
        RejectedError as RejectedError,
        SchemaMismatchError as SchemaMismatchError,
        StepLimitError as StepLimitError,
        StepwellError as StepwellError,
        StoreError as StoreError,
        StreamTruncatedError as StreamTruncatedError,
        TimeoutError as TimeoutError,
        ToolError as ToolError,
        ToolFailed as ToolFailed,
        ToolFailedError as ToolFailedError,
        ToolRetry as ToolRetry,
        TransportError as TransportError,
        UnauthorizedError as UnauthorizedError,
        UnknownVersionError as UnknownVersionError,
        UnreadableError as UnreadableError,
        UnsupportedError as UnsupportedError,
    )
    from ._events import (
        AttemptEvent as AttemptEvent,
        CitationEvent as CitationEvent,
        DataEvent as DataEvent,
        FallbackEvent as FallbackEvent,
        Finish as Finish,
        MessageStart as MessageStart,
        PartEvent as PartEvent,
        Ping as Ping,
        RateLimitsEvent as RateLimitsEvent,
        RawEvent as RawEvent,
        ReasoningDelta as ReasoningDelta,
        ReasoningEnd as ReasoningEnd,
        ReasoningStart as ReasoningStart,
        StreamEvent as StreamEvent,
        StructuredEvent as StructuredEvent,
        TextDelta as TextDelta,
        TextEnd as TextEnd,
        TextStart as TextStart,
        ToolCallDelta as ToolCallDelta,
        ToolCallEnd as ToolCallEnd,
        ToolCallStart as ToolCallStart,
        UnknownEvent as UnknownEvent,
        UsageEvent as UsageEvent,
        WarningEvent as WarningEvent,
    )
    from ._layers import (
        Breaker as Breaker,
        Budget as Budget,
        Cache as Cache,
        Cassette as Cassette,
        RateLimiter as RateLimiter,
    )
    from ._models import (
        ChatModel as ChatModel,
        ChatStream as ChatStream,
        Extractive as Extractive,
        HostModel as HostModel,
        Scripted as Scripted,
        SyncChatStream as SyncChatStream,
        TypedAnswer as TypedAnswer,
        model as model,
        register as register,
        register_compatible as register_compatible,
    )
    from ._records import (
        Attempt as Attempt,
        ChatResponse as ChatResponse,
        Citation as Citation,
        Data as Data,
        Failure as Failure,
        Media as Media,
        Message as Message,
        ModelInfo as ModelInfo,
        Opaque as Opaque,
        Part as Part,
        RateLimit as RateLimit,
        Reasoning as Reasoning,
        Record as Record,
        Refusal as Refusal,
        Span as Span,
        Structured as Structured,
        Text as Text,
        ToolCall as ToolCall,
        ToolResult as ToolResult,
        Unknown as Unknown,
        Usage as Usage,
        Warning as Warning,
    )
    from ._runs import (
        Approval as Approval,
        CustomEvent as CustomEvent,
        ModelEvent as ModelEvent,
        NodeEnd as NodeEnd,
        NodeRetry as NodeRetry,
        NodeStart as NodeStart,
        Pause as Pause,
        Question as Question,
        QuestionEvent as QuestionEvent,
        RunEnd as RunEnd,
        RunEvent as RunEvent,
        RunResult as RunResult,
        RunStart as RunStart,
        Spend as Spend,
        StepEnd as StepEnd,
        StepStart as StepStart,
        ToolEnd as ToolEnd,
        ToolProgress as ToolProgress,
        ToolStart as ToolStart,
        UnknownRunEvent as UnknownRunEvent,
        UpdateEvent as UpdateEvent,
    )
    from ._tools import (
        Tool as Tool,
        ToolContext as ToolContext,
        tool as tool,
    )

    __version__: str
else:
    _PARTS = {
        "_agent": (
            "Agent AgentTool DropToolOutputs RetrieverTool RunStore RunStream Summarise SyncRunStream Trim register_agent "
            "retriever_tool"
        ),
        "_collection": (
            "AddEvent AddProgress AddReport Collection CollectionStats Coverage DocumentEntry DocumentSkipped Explained "
            "FailedDocument FileSkipped IndexStats RenamedFile SegmentSearch SyncEvent SyncPlan SyncProgress SyncReport "
            "VectorField VectorFieldStats"
        ),
        "_documents": "Chunk Document Explanation Filter Heading Hit LegScore PageSpan",
        "_embedders": "Embedder EmbedderInfo MiniLm Reranker embedder reranker",
        "_errors": (
            "BudgetExceededError CODES CancelledError ConflictError DamagedError DiskFullError "
            "EmbedderMismatchError ForeignError HostError InternalError InterruptedRunError InvalidGraphError InvalidInputError "
            "InvalidResponseError InvalidUpdateError IoError LimitExceededError LockedError MissingKeyError "
            "NodeFailedError NotFoundError OverloadedError PinMismatchError ProviderError QuotaExceededError RateLimitedError "
            "RejectedError SchemaMismatchError StepLimitError StepwellError StoreError StreamTruncatedError "
            "TimeoutError ToolError ToolFailed ToolFailedError ToolRetry TransportError UnauthorizedError UnknownVersionError "
            "UnreadableError UnsupportedError"
        ),
        "_events": (
            "AttemptEvent CitationEvent DataEvent FallbackEvent Finish MessageStart PartEvent Ping "
            "RateLimitsEvent RawEvent ReasoningDelta ReasoningEnd ReasoningStart StreamEvent StructuredEvent TextDelta TextEnd TextStart ToolCallDelta "
            "ToolCallEnd ToolCallStart UnknownEvent UsageEvent WarningEvent"
        ),
        "_layers": "Breaker Budget Cache Cassette RateLimiter",
        "_models": (
            "ChatModel ChatStream Extractive HostModel Scripted SyncChatStream TypedAnswer model register "
            "register_compatible"
        ),
        "_records": (
            "Attempt ChatResponse Citation Data Failure Media Message ModelInfo Opaque Part RateLimit Reasoning Record "
            "Refusal Span Structured Text ToolCall ToolResult Unknown Usage Warning"
        ),
        "_runs": (
            "Approval CustomEvent ModelEvent NodeEnd NodeRetry NodeStart Pause Question QuestionEvent RunEnd RunEvent "
            "RunResult RunStart Spend StepEnd StepStart ToolEnd ToolProgress ToolStart UnknownRunEvent UpdateEvent"
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
