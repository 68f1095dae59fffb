// The same objects for `import`.
import stepwell from './index.js'

export const {
  Agent, Anthropic, Approval, Breaker, Budget, BudgetExceededError, Cache, CancelledError, Cassette, ChatModel, ChatStream, Collection,
  ConflictError, DamagedError, DiskFullError, Embedder, EmbedderMismatchError, Extractive, Filter, ForeignError, HostError, InternalError, InterruptedRunError,
  InvalidGraphError, InvalidInputError, InvalidResponseError, InvalidUpdateError, IoError, LimitExceededError,
  LockedError, Message, MiniLm, MissingKeyError, NodeFailedError, NotFoundError, OpenAi, OverloadedError, PinMismatchError,
  ProviderError, QuotaExceededError, RateLimitedError, RateLimiter, RejectedError, Reranker, RunStore, RunStream, Scripted, StepLimitError, StepwellError,
  SchemaMismatchError, StoreError, StreamTruncatedError, TimeoutError, ToolError, ToolFailedError, TransportError, UnauthorizedError,
  UnknownVersionError, UnreadableError, UnsupportedError, embedder, model, register, registerAgent, registerCompatible, reranker,
  retrieverTool, tool,
} = stepwell
