// The same objects for `import`.
import stepwell from './index.js'

export const {
  Agent, Anthropic, BudgetExceededError, CancelledError, ChatModel, ChatStream, Collection, ConflictError,
  DamagedError, DiskFullError, EmbedderMismatchError, Extractive, Filter, ForeignError, HostError, InternalError,
  InvalidGraphError, InvalidInputError, InvalidResponseError, InvalidUpdateError, IoError, LimitExceededError,
  LockedError, Message, MiniLm, MissingKeyError, NodeFailedError, NotFoundError, OpenAi, OverloadedError,
  ProviderError, QuotaExceededError, RateLimitedError, RejectedError, RunStream, Scripted, StepLimitError, StepwellError,
  StoreError, StreamTruncatedError, TimeoutError, ToolError, ToolFailedError, TransportError, UnauthorizedError,
  UnknownVersionError, UnreadableError, UnsupportedError, model, retrieverTool, tool,
} = stepwell
