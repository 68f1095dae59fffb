/** The public types, written by hand. Field names are those of the Rust crate in camelCase; words that are values (`tool_call`, `rate_limited`) are the same. */

// ---------- errors ----------

export type ErrorCode =
  | 'invalid_input' | 'not_found' | 'unsupported' | 'missing_key' | 'unauthorized' | 'rejected' | 'quota_exceeded'
  | 'rate_limited' | 'overloaded' | 'transport' | 'stream_truncated' | 'invalid_response' | 'schema_mismatch'
  | 'timeout' | 'cancelled' | 'interrupted' | 'tool_failed' | 'budget_exceeded' | 'limit_exceeded' | 'step_limit' | 'invalid_graph' | 'invalid_update'
  | 'node_failed' | 'conflict' | 'locked' | 'foreign' | 'damaged' | 'unknown_version' | 'embedder_mismatch' | 'pin_mismatch'
  | 'unreadable' | 'io' | 'disk_full' | 'store' | 'host' | 'internal'

/** Everything the engine throws. What your own code threw (in a tool, a callback) comes back as the same object instead. */
export declare class StepwellError extends Error {
  protected constructor()
  /** A stable word, the same in Rust, Python and Node. */
  readonly code: ErrorCode
  /** Whether the same call may succeed later without a change. */
  readonly retryable: boolean
  /** Milliseconds the vendor asks to wait. */
  readonly retryAfter?: number
}

/** A vendor refused or failed. */
export declare class ProviderError extends StepwellError {
  protected constructor()
  readonly provider: string
  /** HTTP status; absent when it failed inside a stream. */
  readonly status?: number
  /** The vendor's own word for the failure. */
  readonly kind?: string
  readonly requestId?: string
  /** The vendor's sentence. It may quote the request: for a developer's eyes, not for logs. */
  readonly vendorMessage?: string
}

export declare class InvalidInputError extends StepwellError { private constructor(); readonly code: 'invalid_input' }
export declare class NotFoundError extends StepwellError { private constructor(); readonly code: 'not_found' }
export declare class UnsupportedError extends StepwellError { private constructor(); readonly code: 'unsupported' }
export declare class MissingKeyError extends StepwellError { private constructor(); readonly code: 'missing_key' }
export declare class UnauthorizedError extends ProviderError { private constructor(); readonly code: 'unauthorized' }
export declare class RejectedError extends ProviderError { private constructor(); readonly code: 'rejected' }
export declare class QuotaExceededError extends ProviderError { private constructor(); readonly code: 'quota_exceeded' }
export declare class RateLimitedError extends ProviderError { private constructor(); readonly code: 'rate_limited' }
export declare class OverloadedError extends ProviderError { private constructor(); readonly code: 'overloaded' }
export declare class TransportError extends StepwellError { private constructor(); readonly code: 'transport' }
export declare class StreamTruncatedError extends StepwellError {
  private constructor()
  readonly code: 'stream_truncated'
  /** What had arrived, with the usage known so far. */
  readonly partial: ChatResponse
}
export declare class InvalidResponseError extends StepwellError { private constructor(); readonly code: 'invalid_response' }
export declare class SchemaMismatchError extends StepwellError {
  private constructor()
  readonly code: 'schema_mismatch'
  /** The answer, whole: it has another shape than was asked for. */
  readonly partial: ChatResponse
}
export declare class TimeoutError extends StepwellError {
  private constructor()
  readonly code: 'timeout'
  /** What had come of an answer that was cut short. */
  readonly partial?: ChatResponse
}
export declare class CancelledError extends StepwellError { private constructor(); readonly code: 'cancelled' }
export declare class InterruptedRunError extends StepwellError {
  private constructor()
  readonly code: 'interrupted'
  /** The run that waits for a person: answer its questions and let it go on. */
  readonly runId: string
}
export declare class ToolFailedError extends StepwellError { private constructor(); readonly code: 'tool_failed' }
export declare class BudgetExceededError extends StepwellError {
  private constructor()
  readonly code: 'budget_exceeded'
  /** What had come of an answer that was cut short. */
  readonly partial?: ChatResponse
}
export declare class LimitExceededError extends StepwellError { private constructor(); readonly code: 'limit_exceeded' }
export declare class StepLimitError extends StepwellError { private constructor(); readonly code: 'step_limit' }
export declare class InvalidGraphError extends StepwellError { private constructor(); readonly code: 'invalid_graph'; readonly faults: readonly string[] }
export declare class InvalidUpdateError extends StepwellError { private constructor(); readonly code: 'invalid_update' }
export declare class NodeFailedError extends StepwellError { private constructor(); readonly code: 'node_failed' }
export declare class ConflictError extends StepwellError { private constructor(); readonly code: 'conflict' }
export declare class LockedError extends StepwellError { private constructor(); readonly code: 'locked' }
export declare class ForeignError extends StepwellError { private constructor(); readonly code: 'foreign' }
export declare class DamagedError extends StepwellError { private constructor(); readonly code: 'damaged' }
export declare class UnknownVersionError extends StepwellError { private constructor(); readonly code: 'unknown_version' }
export declare class EmbedderMismatchError extends StepwellError { private constructor(); readonly code: 'embedder_mismatch' }
export declare class PinMismatchError extends StepwellError { private constructor(); readonly code: 'pin_mismatch' }
export declare class UnreadableError extends StepwellError { private constructor(); readonly code: 'unreadable' }
export declare class IoError extends StepwellError { private constructor(); readonly code: 'io' }
export declare class DiskFullError extends StepwellError { private constructor(); readonly code: 'disk_full' }
export declare class StoreError extends StepwellError { private constructor(); readonly code: 'store' }
/** An error of code that the host gave the engine, other than a tool's. */
export declare class HostError extends StepwellError { private constructor(); readonly code: 'host' }
export declare class InternalError extends StepwellError { private constructor(); readonly code: 'internal' }

/** How a tool fails on purpose: the model is told, and mends its call (`retry`) or moves on (`failed`). Anything else a tool throws stops the run. */
export declare class ToolError extends Error {
  constructor(message: string, options?: { door?: 'retry' | 'failed'; cause?: unknown })
  readonly door: 'retry' | 'failed'
  static retry(message: string, options?: { cause?: unknown }): ToolError
  static failed(message: string, options?: { cause?: unknown }): ToolError
}

/** Stops the call: it rejects with `signal.reason` itself. */
export interface CallOptions {
  signal?: AbortSignal
}

// ---------- messages ----------

/** What JSON can say. */
export type Json = null | boolean | number | string | Json[] | { [key: string]: Json }
export type Role = 'system' | 'developer' | 'user' | 'assistant' | 'tool'
/** Where words come from: what a tool or a document says is data, never an instruction. */
export type Origin = 'system' | 'user' | 'model' | 'tool' | 'document' | 'import'

/** A vendor's own token on a part; it goes back to the vendor and model that made it. */
export interface Opaque { provider: string; model: string; value: Json }
export type CachePoint = 'short' | 'long'
/** Bytes of a text. */
export interface Span { start: number; end: number }

/** A place in a document that words rest on; `quote` is the document's own text at `span`. */
export interface Citation {
  documentId: string
  chunkId: string
  title?: string
  uri?: string
  span: Span
  page?: number
  headings?: string[]
  quote: string
}

export interface TextPart { type: 'text'; text: string; origin: Origin; citations?: Citation[]; opaque?: Opaque; cache?: CachePoint }
export interface MediaPart {
  type: 'media'
  mediaType: string
  /** Base64, an address that goes to the vendor, or the vendor's id. */
  source: { bytes: string } | { url: string } | { fileId: string }
  name?: string
  origin: Origin
  cache?: CachePoint
}
export interface ReasoningPart { type: 'reasoning'; text: string; opaque?: Opaque; isRedacted?: boolean; origin: Origin }
export interface ToolCall {
  id: string
  name: string
  arguments: Json
  /** The arguments as sent, where they are not JSON. */
  malformed?: string
  isProviderExecuted?: boolean
  opaque?: Opaque
  origin: Origin
}
export interface ToolCallPart extends ToolCall { type: 'tool_call' }
export interface ToolResult {
  callId: string
  name: string
  parts: Part[]
  isError?: boolean
  origin: Origin
  cache?: CachePoint
}
export interface ToolResultPart extends ToolResult { type: 'tool_result' }
export interface DataPart { type: 'data'; name: string; value: Json; origin: Origin }
export interface UnknownPart { type: 'unknown'; provider: string; value: Json; origin: Origin }
export type Part = TextPart | MediaPart | ReasoningPart | ToolCallPart | ToolResultPart | DataPart | UnknownPart

/** One turn, as plain data. */
export interface Message {
  id?: string
  role: Role
  parts: Part[]
  name?: string
  /** Anything the program wants to keep beside it; never sent to a vendor. */
  metadata?: { [key: string]: Json }
}

type DistributiveOmit<T, K extends PropertyKey> = T extends unknown ? Omit<T, K> : never
/** A part as you write it: its origin is that of the message's role where it has none. */
export type PartInput = DistributiveOmit<Part, 'origin' | 'parts'> & { origin?: Origin; parts?: PartInput[] }
export interface MessageInput extends Omit<Message, 'parts'> { parts: PartInput[] }

export declare const Message: {
  system(text: string): Message
  user(text: string): Message
  assistant(text: string): Message
  /** All words, reasoning and tool traffic left out. */
  text(message: Message): string
}

// ---------- models ----------

/** Tokens in disjoint parts; what was not reported is absent, never 0. */
export interface Usage {
  inputTokens?: number
  cacheReadTokens?: number
  cacheWriteTokens?: number
  cacheWrite1hTokens?: number
  outputTokens?: number
  reasoningTokens?: number
  isEstimated?: boolean
}
export type FinishReason = 'stop' | 'length' | 'tool_calls' | 'content_filter' | 'other'
export interface Warning { code: string; message: string }
export interface Refusal { message: string | null; category: string | null }
export interface RateLimit { name: string; limit: number | null; remaining: number | null; resetMs: number | null }

export interface ChatResponse {
  /** Its words. */
  text: string
  /** The calls we are to run. */
  toolCalls: ToolCall[]
  message: Message
  finishReason: FinishReason
  /** The vendor's own word for that. */
  rawFinishReason: string | null
  refusal: Refusal | null
  usage: Usage
  /** Money, where the price is known. */
  cost: Json
  provider: string
  model: string
  id: string | null
  requestId: string | null
  /** What was not done as asked. */
  warnings: Warning[]
  rateLimits: RateLimit[]
  /** The vendor's answer as it came, with `includeRaw`. */
  raw: Json
  /** The answer's JSON where a shape was asked for. */
  structured?: Structured
  /** Tries that failed before this answer came, oldest first. */
  attempts?: Attempt[]
}
/** How a vendor is brought to answer in a shape. */
export type StructuredStrategy = 'native' | 'final_tool' | 'prompted' | 'two_phase'
/** The JSON of an answer that was asked for in a shape; `value` is null where the answer broke it. */
export interface Structured { strategy: StructuredStrategy; value: Json }
/** A try of a call that failed before the answer came. */
export interface Attempt {
  provider: string
  model: string
  /** The `code` of its error. */
  code: string
  status?: number
  kind?: string
  requestId?: string
  waitedMs: number
  usage?: Usage
  cost?: Json
}

/** One step of an answer. A delta is the new piece alone; a stream closes with exactly one `finish`. */
export type StreamEvent =
  | { type: 'message_start'; id: string | null; model: string | null; requestId: string | null }
  | { type: 'text_start'; index: number }
  | { type: 'text_delta'; index: number; text: string }
  | { type: 'text_end'; index: number; opaque: Opaque | null }
  | { type: 'reasoning_start'; index: number }
  | { type: 'reasoning_delta'; index: number; text: string }
  | { type: 'reasoning_end'; index: number; opaque: Opaque | null; isRedacted: boolean }
  | { type: 'tool_call_start'; index: number; id: string; name: string; isProviderExecuted: boolean }
  | { type: 'tool_call_delta'; index: number; arguments: string }
  | { type: 'tool_call_end'; index: number; opaque: Opaque | null }
  | { type: 'part'; index: number; part: Part }
  | { type: 'citation'; index: number; citation: Citation }
  | { type: 'data'; name: string; value: Json; origin: Origin }
  | ({ type: 'warning' } & Warning)
  | ({ type: 'structured' } & Structured)
  | ({ type: 'usage' } & Usage)
  | { type: 'rate_limits'; limits: RateLimit[] }
  | ({ type: 'attempt' } & Attempt)
  | { type: 'fallback'; provider: string; model: string }
  | { type: 'ping' }
  | { type: 'raw'; value: Json }
  | { type: 'finish'; reason: FinishReason; raw: string | null; refusal: Refusal | null }

export interface ToolSpec { name: string; description: string; parameters: JsonSchema }

/** What can be asked of a model beside the messages. */
export interface RequestOptions {
  toolChoice?: 'auto' | 'none' | 'any' | { named: string }
  parallelToolCalls?: boolean
  responseFormat?: 'text' | 'json' | { name: string; schema: JsonSchema | StandardSchema }
  /** How the vendor is brought to that shape; the surest way it has otherwise. */
  structured?: StructuredStrategy
  maxOutputTokens?: number
  temperature?: number
  topP?: number
  topK?: number
  stopSequences?: string[]
  seed?: number
  reasoning?: { effort?: 'none' | 'minimal' | 'low' | 'medium' | 'high' | 'max'; budgetTokens?: number; showSummary?: boolean }
  cache?: 'points' | 'automatic'
  metadata?: Record<string, string>
  /** A vendor's own options, by vendor name. */
  providerOptions?: Record<string, Json>
  includeRaw?: boolean
}
export interface ChatRequest extends RequestOptions {
  messages: string | readonly MessageInput[]
  tools?: readonly (ToolSpec | Tool<any, any>)[]
}
/** A question, a turn, a conversation, or one with options. */
export type ChatInput = string | MessageInput | readonly MessageInput[] | ChatRequest

export interface ModelInfo {
  provider: string
  model: string
  contextWindow: number | null
  maxOutputTokens: number | null
  abilities: Record<'tools' | 'images' | 'documents' | 'audio' | 'reasoning' | 'structuredOutput', boolean | null>
  price: Json
}

/** Events as they come. Leaving a `for await` stops the engine. */
interface EventStream<Event> extends AsyncIterableIterator<Event, undefined, undefined> {
  next(): Promise<IteratorResult<Event, undefined>>
  return(): Promise<IteratorResult<Event, undefined>>
  [Symbol.asyncIterator](): this
  [Symbol.asyncDispose](): Promise<void>
  toReadableStream(): ReadableStream<Event>
  /** The words alone, in pieces as long as the reader is slow; cheaper than events. */
  text(): AsyncGenerator<string, void, undefined>
}

export interface ChatStream extends EventStream<StreamEvent> {
  /** The whole answer; reads what is left of the stream. `undefined` when the stream was left before its end. */
  response(): Promise<ChatResponse | undefined>
}
export declare const ChatStream: { prototype: ChatStream; [Symbol.hasInstance](value: unknown): value is ChatStream }

/** An answer as a value of the shape it was asked for, and all that came beside it. */
export interface TypedAnswer<T> { value: T; response: ChatResponse }

/** A model that continues a conversation. */
export declare class ChatModel {
  protected constructor()
  /** Which model, and what is known of it. */
  get info(): ModelInfo
  /** The whole answer. */
  chat(request: ChatInput, options?: CallOptions): Promise<ChatResponse>
  /** The answer as it comes. The call starts at once. */
  stream(request: ChatInput, options?: CallOptions): ChatStream
  /**
   * The answer as a value of this shape: a JSON Schema, or a Standard Schema such as a zod object. An answer of another
   * shape is a `SchemaMismatchError`, with the whole answer as its `partial`.
   */
  chatAs<const S extends StandardSchema>(shape: S, request: ChatInput, options?: CallOptions): Promise<TypedAnswer<OutputOf<S>>>
  chatAs<const S extends JsonSchema>(shape: S, request: ChatInput, options?: CallOptions): Promise<TypedAnswer<FromJsonSchema<S>>>
  /** How many tokens the request has; estimated where the vendor does not count. */
  countTokens(request: ChatInput, options?: CallOptions): Promise<Usage>
  // Layers: each gives a model around this one, and the one put on last is the outermost.
  /** Asks again when a call fails before its first word. The outermost retry is the only one. */
  withRetry(options?: RetryOptions): ChatModel
  /** Bounds the time to the first event, between events, and in all. */
  withTimeouts(options?: TimeoutOptions): ChatModel
  /** Waits until the account may send the request. */
  withRateLimit(limiter: RateLimiter): ChatModel
  /** Fails at once while the endpoint is down. */
  withBreaker(breaker: Breaker): ChatModel
  /** Asks these models, in order, when this one cannot answer. */
  withFallback(others: ChatModel | readonly ChatModel[], options?: FallbackOptions): ChatModel
  /** Gives answers again that were given to this tenant before. Leave it off where each is to be a new one. */
  withCache(cache: Cache, options?: CacheOptions): ChatModel
  /** Spends from a budget; at its limit the answer stops with a `BudgetExceededError`. */
  withBudget(budget: Budget): ChatModel
}

/** How a vendor is asked; what is absent comes from the environment (`ANTHROPIC_API_KEY`, `OPENAI_BASE_URL` …). */
export interface VendorOptions {
  apiKey?: string
  baseUrl?: string
  /** Go with every call. */
  headers?: Record<string, string>
  http?: HttpOptions
  cassette?: Cassette
}
export interface ModelOptions extends VendorOptions {
  /** Leaves out the retry and the limit of time that a vendor's model has around it. */
  isBare?: boolean
}
/** Timers, limits, proxy. */
export interface HttpOptions {
  connectTimeoutMs?: number
  firstEventTimeoutMs?: number
  idleTimeoutMs?: number
  totalTimeoutMs?: number
  maxResponseBytes?: number
  maxEventBytes?: number
  maxLineBytes?: number
  proxy?: string
  /** Authorities to trust beside those of the system, as PEM. */
  rootCertificates?: string[]
}

/**
 * The model of a name such as `anthropic/claude-sonnet-5` or `groq/openai/gpt-oss-120b`. A call that fails before its
 * first word is made again, unless `isBare`.
 */
export declare function model(name: string, options?: ModelOptions): ChatModel
/** Adds a vendor of your own, or takes the place of one: `factory` gets what stands behind `vendor/`. */
export declare function register(vendor: string, factory: (model: string) => ChatModel): void
/**
 * Adds a server of your own that speaks Chat Completions at an address with its `/v1`. A key, where it wants one, is read
 * from `MY_VENDOR_API_KEY` for the name `my-vendor`. `quirks` says how it differs from most such servers.
 */
export declare function registerCompatible(vendor: string, baseUrl: string, quirks?: { [name: string]: Json }): void

/**
 * Makes an agent a model, `model('agent/<name>')`, for whoever asks a model. Every request is a run; one that waits for a
 * person is an `InterruptedRunError`. Its tools have the async context of this call.
 */
export declare function registerAgent(name: string, agent: Agent<any>): void

export declare class Anthropic extends ChatModel {
  constructor(model: string, options?: ModelOptions)
}
/** OpenAI, or a server that speaks its Chat Completions wire. */
export declare class OpenAi extends ChatModel {
  constructor(model: string, options?: ModelOptions & { organization?: string; project?: string })
}

/** How often and when to ask again. */
export interface RetryOptions {
  maxRetries?: number
  maxMalformedRetries?: number
  firstDelayMs?: number
  maxDelayMs?: number
  maxServerDelayMs?: number
  deadlineMs?: number | null
  seed?: number
}
/** How long to wait for what; `null` is no limit. */
export interface TimeoutOptions {
  firstEventMs?: number | null
  idleMs?: number | null
  pingsCount?: boolean
  totalMs?: number | null
}
export type FallbackReason =
  'quota' | 'rate_limit' | 'failure' | 'invalid_response' | 'context_window' | 'refusal' | 'misconfiguration'
/** When the next model is asked. */
export interface FallbackOptions {
  reasons?: FallbackReason[]
  patienceMs?: number
  /** Goes on with another model also when a text breaks off after its first words. */
  afterOutput?: 'ask' | 'prefill'
}
/** What is kept, and for how long. */
export interface CacheOptions {
  tenant?: string
  timeToLiveMs?: number | null
  maxBytes?: number
  sharesCalls?: boolean
  maxWaitMs?: number
}

/** What an account may send, shared by all models it is around. */
export declare class RateLimiter {
  constructor(options?: {
    requestsPerMinute?: number
    tokensPerMinute?: number
    maxConcurrent?: number
    expectedOutputTokens?: number
    /** Follows what the vendor says is left; yes. */
    isAdaptive?: boolean
    maxWaitMs?: number
    maxWaiting?: number
  })
  /** How many calls of `vendor/model` wait, and how many run. */
  load(model: string): { waiting: number; running: number }
}
/** Which endpoints are down, shared by all models it is around. */
export declare class Breaker {
  constructor(options?: { failures?: number; windowMs?: number; openForMs?: number })
  #private
}
/** What may be spent, shared by all models it is around. Money is in millionths of a US dollar. */
export declare class Budget {
  constructor(limits?: { microUsd?: number; tokens?: number; calls?: number; timeMs?: number })
  readonly spent: { microUsd: number; tokens: number; calls: number; timeMs: number }
}
/** Where answers are kept: in a SQLite file, or in memory without a path. */
export declare class Cache {
  constructor(options?: { path?: string })
  #private
}

export interface Playing {
  /** How played bodies are cut. */
  chunks?: 'recorded' | 'whole' | 'bytes' | { random: { seed: number } }
  /** Whether pieces come at their recorded times. */
  keepsTime?: boolean
  /** Which played call (from 0) goes wrong, and how. */
  faults?: { call: number; fault: Fault }[]
}
export type Fault =
  'duplicateStart' | { cutAt: number } | { resetAt: number } | { stallAt: number } | { status: number; retryAfterMs?: number }
/** Calls to vendors recorded to a file, or played from it, offline and without a key. */
export declare class Cassette {
  private constructor()
  static record(path: string): Cassette
  static play(path: string, options?: Playing): Cassette
  /** Plays the file where it is there, records it where it is not: delete it to record anew. */
  static recordOrPlay(path: string, options?: Playing): Cassette
  readonly isPlaying: boolean
}

/** A model that plays a script, for tests and examples: each step answers one request. */
export declare class Scripted extends ChatModel {
  constructor(options?: {
    /** `vendor/model`; `scripted/script` otherwise. */
    name?: string
    /** Characters of a delta; 12. */
    deltaChars?: number
    /** Milliseconds before each event. */
    paceMs?: number
  })
  say(text: string): this
  call(tool: string, input?: Json): this
  calls(calls: readonly (readonly [tool: string, input: Json])[]): this
  /** The next request fails so; `after` these words, where given. */
  fail(
    code: 'rate_limited' | 'overloaded' | 'quota_exceeded' | 'rejected' | 'unauthorized',
    options?: { retryAfter?: number; after?: string },
  ): this
  /** The next answer begins with this text and breaks off without its end mark. */
  breakOff(text: string): this
  /** Every answer after the script's end. */
  forever(text: string): this
  /** Steps not played yet. */
  readonly remaining: number
  /** What was asked so far, oldest first. */
  readonly requests: { messages: Message[]; tools: ToolSpec[] }[]
}

/** Answers offline with the documents' own sentences and their citations, or says that they do not tell. */
export declare class Extractive extends ChatModel {
  private constructor()
  static create(options?: { embedder?: Embedder }): Promise<Extractive>
}

// ---------- tools ----------

/** A JSON Schema (2020-12). */
export interface JsonSchema { readonly [keyword: string]: unknown }

/** The part of Standard Schema that is used; zod 4 has it, no schema library is needed. */
export interface StandardSchema<Input = unknown, Output = Input> {
  readonly '~standard': {
    readonly version: 1
    readonly vendor: string
    readonly validate: (value: unknown) => unknown
    readonly types?: { readonly input: Input; readonly output: Output } | undefined
  }
}
export type OutputOf<S extends StandardSchema> = NonNullable<S['~standard']['types']>['output']

type Writable<T> = { -readonly [K in keyof T]: T[K] }
type RequiredKeys<S> = S extends { readonly required: readonly (infer K extends string)[] } ? K : never
type Flat<T> = { [K in keyof T]: T[K] }
/** The values that a literal JSON Schema describes; `any` where it says too little. */
export type FromJsonSchema<S> =
  S extends { readonly const: infer C } ? C
  : S extends { readonly enum: readonly (infer E)[] } ? E
  : S extends { readonly type: 'string' } ? string
  : S extends { readonly type: 'number' | 'integer' } ? number
  : S extends { readonly type: 'boolean' } ? boolean
  : S extends { readonly type: 'null' } ? null
  : S extends { readonly type: 'array'; readonly items: infer I } ? FromJsonSchema<I>[]
  : S extends { readonly type: 'array' } ? any[]
  : S extends { readonly type: 'object'; readonly properties: infer P } ? Flat<
      Writable<{ [K in keyof P as K extends RequiredKeys<S> ? K : never]: FromJsonSchema<P[K]> }> &
      Writable<{ [K in keyof P as K extends RequiredKeys<S> ? never : K]?: FromJsonSchema<P[K]> }>
    >
  : any

/** The facts of one call. */
export interface ToolContext {
  callId: string
  runId: string
  /** The same for every repetition of this logical call. */
  idempotencyKey: string
  /** 1 for the first try. */
  attempt: number
  /** Aborted when the run stops. */
  signal: AbortSignal
  /** Tells whoever watches the run how far this call is. */
  emit(progress: unknown): void
}

interface ToolOptions {
  /** Letters, digits, `_` and `-`, at most 64. */
  name: string
  /** When to use it and what it gives; the model reads it. */
  description?: string
  /** What doing it twice would do; `pure` where absent. */
  effect?: 'pure' | 'idempotent' | 'at_most_once'
  /** What it may touch; `read` where absent. Writing and sending pause the run and ask, unless the policy allows them. */
  risk?: 'read' | 'write' | 'egress'
  timeoutMs?: number
  /** Whether it may run beside other calls of the same turn; it may. */
  parallel?: boolean
  /** How often a call that failed is tried again before the model is told; never of `at_most_once`. */
  retries?: number
}

export interface Tool<Input = any, Result = unknown> {
  readonly name: string
  readonly description: string
  /** JSON Schema of the input. */
  readonly parameters: JsonSchema
  run(input: Input, context: ToolContext): Result | Promise<Result>
}

/** A tool from a function. The engine checks the arguments against the schema before it is called. */
export declare function tool<S extends StandardSchema, Result>(
  options: ToolOptions & { input: S; run: (input: OutputOf<S>, context: ToolContext) => Result | Promise<Result> },
): Tool<OutputOf<S>, Result>
export declare function tool<const S extends JsonSchema, Result>(
  options: ToolOptions & { input: S; run: (input: FromJsonSchema<S>, context: ToolContext) => Result | Promise<Result> },
): Tool<FromJsonSchema<S>, Result>

/** A search in a collection, as a tool. */
export interface SearchTool extends ToolSpec { readonly '~search': unknown }
export declare function retrieverTool(
  name: string,
  collection: Collection,
  options?: {
    /** What can be found there; the model reads it. */
    about?: string
    /** Hits where the model asks for no number; 8. */
    topK?: number
    /** Most bytes of the text the model reads; 24 KiB. */
    textBytes?: number
  },
): SearchTool

// ---------- agents ----------

export interface Failure { code: ErrorCode; message: string }
export type RunStatus = 'running' | 'paused' | 'done' | 'failed' | 'cancelled'

interface RunPlace {
  /** 1 for the first; counts without gaps. */
  seq: number
  runId: string
  /** Where in nested runs; absent in the outermost. */
  path?: string[]
  step: number
  node?: string
  /** Which of several tasks of one node, where a node was sent several. */
  send?: number
}
/** One thing that happened in a run. `update` and `values` are the state as it is stored. */
export type RunEvent = RunPlace & (
  | { type: 'run_start'; isResumed: boolean; values?: Json }
  | { type: 'step_start'; nodes: string[] }
  | { type: 'node_start' }
  | { type: 'model'; event: StreamEvent }
  | { type: 'tool_start'; call: ToolCall }
  | { type: 'tool_progress'; callId: string; value: Json }
  | { type: 'tool_end'; result: ToolResult }
  | { type: 'custom'; name: string; value: Json }
  | { type: 'update'; update: Json }
  | { type: 'node_end'; failure?: Failure }
  /** A node failed and is tried again after `delayMs`; attempt 1 is the first that failed. */
  | { type: 'node_retry'; attempt: number; failure: Failure; delayMs: number }
  /** A node asks a person; the run pauses once its step is done. */
  | { type: 'question'; question: Question }
  | { type: 'step_end'; values?: Json }
  | { type: 'run_end'; status: RunStatus; pause?: Pause; failure?: Failure; questions?: Question[]; values?: Json }
)

/** Why a run paused; `nodes` are those of a breakpoint. */
export interface Pause { pause: 'questions' | 'before' | 'after' | 'drained'; nodes?: string[] }
/**
 * What a run waits for: plain data, to be shown to a person. Whether a tool may be called is such a question: its payload
 * has `tool`, `arguments`, `reason`, `effect` and `risk`, and an `Approval` answers it.
 */
export interface Question {
  /** Answer it by this. */
  id: string
  /** The author's name for it. */
  key: string
  /** The nodes around the run that asks, from the outermost in; absent in the outermost run. */
  path?: string[]
  /** The node that asks. */
  node: string
  step: number
  /** The tool call that asks, where it is one. */
  callId?: string
  /** What the person is shown. */
  payload: any
  /** JSON Schema of the answer. */
  schema: JsonSchema
  /** When it was asked, milliseconds since 1970. */
  askedMs: number
  /** When it is too late for an answer. */
  expiresMs?: number
}
/** A person's word on a tool call, bound to the exact arguments that were shown. */
export interface Approval { decision: 'allow' | 'edit' | 'deny'; digest: string; arguments?: Json; reason?: string }
export declare const Approval: {
  /** It may run. */
  allow(question: Question): Approval
  /** It may run with these arguments. */
  edit(question: Question, args: Json): Approval
  /** It must not run; the model is told the reason. */
  deny(question: Question, reason: string): Approval
}

export interface RunResult<Output = null> {
  runId: string
  status: RunStatus
  /** Whether it waits: for answers to its questions, or at a breakpoint. */
  isPaused: boolean
  /** Why it paused, where it did. */
  pause: Pause | null
  /** What it waits for; `goOn` and `resume` take the answers. */
  questions: Question[]
  /** The words of the answer. */
  answer: string
  /** The answer in the shape that the agent was asked for; `null` where there is none (yet). */
  output: Output
  /** The whole conversation: what was given, then the model's messages and the tools' results. */
  messages: Message[]
  /** What the answer rests on; `place` is the file, then page or heading. */
  citations: (Citation & { place: string })[]
  /** What searches of this turn found, each chunk once. */
  hits: Hit[]
  usage: Usage
  spent: { microUsd: number; tokens: number; calls: number; timeMs: number }
  steps: number
}

export interface RunStream<Output = null> extends EventStream<RunEvent> {
  /** The result; reads what is left of the stream. `undefined` when the stream was left before its end. */
  result(): Promise<RunResult<Output> | undefined>
}
export declare const RunStream: { prototype: RunStream; [Symbol.hasInstance](value: unknown): value is RunStream<unknown> }

/** Where the journals of runs are kept, so that they can be resumed. */
export declare class RunStore {
  private constructor()
  /** For as long as the process lives. */
  static memory(): RunStore
  /** In a SQLite file, made when it is not there. */
  static sqlite(path: string): RunStore
}

/** An agent as a tool of another; made by `agent.tool(…)`. */
export interface AgentTool extends ToolSpec { readonly '~agent': unknown }

/** Shapes what of a long conversation is sent; the conversation itself stays whole. */
export type ContextPolicy =
  /** The newest turns that fit into so many tokens, and always the last `keepTurns`; `keepFirst` sends the first question too. */
  | { type: 'trim'; toTokens: number; keepTurns?: number; keepFirst?: boolean }
  /** Leaves out what tools said, but for that of the last `keepRounds` of calls and what is shorter than `minBytes`. */
  | { type: 'drop_tool_outputs'; keepRounds?: number; minBytes?: number }
  /** From so many tokens on, what is older than the last `keepTurns` is sent as a summary, made by `model` or the agent's own. */
  | { type: 'summarise'; overTokens: number; model?: ChatModel; keepTurns?: number; summaryTokens?: number }

export interface AgentOptions {
  name?: string
  /** What the model is told before every conversation, as it is. */
  instructions?: string
  /** The instructions, made anew for each run from `variables` and those of the run, in the syntax of Jinja. */
  template?: string
  variables?: { [name: string]: Json }
  tools?: readonly (Tool<any, any> | SearchTool | AgentTool)[]
  /** How often the model is asked again after an answer that is not in the shape; 2. */
  outputRetries?: number
  /** Searched for what the person last said, before the model is asked; what is found is put before the question. */
  context?: Collection
  contextOptions?: {
    /** 8. */
    topK?: number
    /** Most bytes of the text the model reads; 24 KiB. */
    maxBytes?: number
    filter?: Filter
    mode?: 'hybrid' | 'lexical' | 'dense'
    minScore?: number
  }
  /** One after the other. */
  contextPolicies?: readonly ContextPolicy[]
  /** Keeps the journals of its runs there. */
  store?: RunStore
  /** Each step is safe before the next begins. */
  isSynced?: boolean
  /** Options of every model call. */
  request?: RequestOptions
  /** Who decides whether a call may run; `ask_before_effects` where absent: reading runs, writing and sending pause the run and ask. */
  policy?: 'ask_before_effects' | 'allow_all'
  limits?: {
    steps?: number
    toolCalls?: number
    toolOutputBytes?: number
    toolTimeoutMs?: number
    answerBytes?: number
    toolRetries?: number
  }
  /** What each run may spend. */
  budget?: { microUsd?: number; tokens?: number; calls?: number; timeMs?: number }
  scope?: Scope
}
export interface RunOptions extends CallOptions {
  runId?: string
  scope?: Scope
  /** Fills the template; these go before the agent's. */
  variables?: { [name: string]: Json }
}
/** Answers to questions, by their ids; whether a tool may be called is answered with an `Approval`. */
export interface Answers { [questionId: string]: Json | Approval }
export type AgentInput = string | MessageInput | readonly MessageInput[]

/** A model and its tools, in a loop until the model answers. */
export interface Agent<Output = null> {
  /** Runs it until it ends or pauses. What a tool throws (but a `ToolError`) rejects the run, as the same object. */
  run(input: AgentInput, options?: RunOptions): Promise<RunResult<Output>>
  /** Runs it and gives what happens. */
  stream(input: AgentInput, options?: RunOptions): RunStream<Output>
  /** Goes on with a run from the agent's store. Questions without an answer stay. */
  resume(runId: string, options?: CallOptions & { scope?: Scope; answers?: Answers }): Promise<RunResult<Output>>
  /** Goes on with a run of this agent that paused, with a store or without; once. */
  goOn(result: RunResult<Output>, options?: CallOptions & { answers?: Answers }): Promise<RunResult<Output>>
  /**
   * The agent as a tool of another, which hands it a task and reads its answer. Its run is inside of the caller's: it spends
   * from the same budget, stops with it, and its questions are the run's.
   */
  tool(
    name: string,
    description: string,
    options?: Pick<ToolOptions, 'effect' | 'risk' | 'timeoutMs' | 'parallel' | 'retries'>,
  ): AgentTool
}
export declare const Agent: {
  /** With `output` the answer comes in its shape; a faulty answer is told to the model, which is asked again. */
  new <const S extends StandardSchema>(model: ChatModel, options: AgentOptions & { output: S }): Agent<OutputOf<S>>
  new <const S extends JsonSchema>(model: ChatModel, options: AgentOptions & { output: S }): Agent<FromJsonSchema<S>>
  new (model: ChatModel, options?: AgentOptions): Agent
  readonly prototype: Agent<any>
}

// ---------- retrieval ----------

/** Whose data: a tenant's name, with the person or program that acts for it. */
export type Scope = string | { tenant: string; actor?: string }

export interface Heading { level: number; title: string; span: Span }
export interface Document {
  /** Adding another of the same id replaces it. */
  id: string
  /** UTF-8, LF line ends. */
  text: string
  title?: string
  uri?: string
  mediaType?: string
  headings?: Heading[]
  pages?: { number: number; span: Span }[]
  /** Facts to filter by. */
  metadata?: { [key: string]: Json }
}
export interface Chunk {
  id: string
  documentId: string
  number: number
  text: string
  /** Bytes of the document's text. */
  span: Span
  headings?: string[]
  page?: number
  pageBreaks?: [number, number][]
  title?: string
  uri?: string
  metadata?: { [key: string]: Json }
}
export interface LegScore { rank: number | null; raw: number; normalized: number }
export interface Explanation {
  lexical?: LegScore
  dense?: LegScore
  /** Share of the question's distinct words that the chunk has, 0 to 1. */
  termCoverage?: number
  /** The same share, a word counting the more the fewer chunks have it. */
  weightedCoverage?: number
  /** How likely it answers the question, 0 to 1, comparable between questions. */
  relevance?: number
  /** What put it there last. */
  stage: string
}
export interface Hit {
  chunk: Chunk
  /** Higher is better; comparable within one answer. */
  score: number
  /** File, then page or heading, to show. */
  place: string
  /** Why it is where it is. */
  explanation: Explanation
  /** Bytes of `chunk.text` (UTF-8) where words of the question stand, where they were asked for and are there. */
  highlights?: Span[]
}

type FilterValue = string | number | boolean | { date: string }
/** Which chunks may be found, as plain data; `Filter.eq(…)` and its like make it. */
export type Filter =
  | { eq: { key: string; value: FilterValue } }
  | { in: { key: string; values: FilterValue[] } }
  | { range: { key: string; min: FilterValue | null; max: FilterValue | null } }
  | { exists: { key: string } }
  | { prefix: { key: string; prefix: string } }
  | { documents: { ids: string[] } }
  | { and: Filter[] }
  | { or: Filter[] }
  | { not: Filter }
type Given = string | number | boolean | Date
export declare const Filter: {
  eq(key: string, value: Given): Filter
  isIn(key: string, values: readonly Given[]): Filter
  /** Bounds included; leave one out for an open side. */
  range(key: string, bounds: { min?: Given; max?: Given }): Filter
  exists(key: string): Filter
  prefix(key: string, prefix: string): Filter
  documents(ids: string[]): Filter
  and(...filters: Filter[]): Filter
  or(...filters: Filter[]): Filter
  not(filter: Filter): Filter
}

export interface EmbedderInfo {
  provider: string
  model: string
  revision: string
  dimension: number
  maxInputTokens: number
  isNormalized: boolean
  fingerprint: string
}
/** Text → vector. */
export declare class Embedder {
  protected constructor()
  info(): Promise<EmbedderInfo>
  /** One vector per text. */
  embed(texts: readonly string[], options?: CallOptions & { kind?: 'query' | 'document' }): Promise<Float32Array[]>
}
/** all-MiniLM-L6-v2 in process: it is inside the package, and loads at first use. */
export declare class MiniLm extends Embedder {
  constructor(options?: { threads?: number })
}
/** The embedder of a name such as `voyage/voyage-4` or `openai/text-embedding-3-small`. */
export declare function embedder(
  name: string,
  options?: VendorOptions & {
    /** Asks a model that can for shorter vectors. */
    dimension?: number
    /** How wide a model's own vectors are, where the catalogue does not know. */
    width?: number
  },
): Promise<Embedder>
/** Puts hits in a better order. */
export declare class Reranker {
  private constructor()
  /** The best hits, best first, with new scores. A text stands for a hit whose document's id is its place in the list. */
  rerank(question: string, hits: readonly (Hit | string)[], options?: CallOptions & { topK?: number }): Promise<Hit[]>
}
/** The reranker of a name such as `voyage/rerank-2.5` or `cohere/rerank-v4.0-pro`. */
export declare function reranker(name: string, options?: VendorOptions): Reranker

export interface AddProgress {
  documentsTotal: number | null
  documentsDone: number
  documentsAdded: number
  documentsUpdated: number
  documentsUnchanged: number
  documentsSkipped: number
  documentsFailed: number
  chunks: number
  /** Of these, chunks whose vector came from the embedding cache. */
  chunksCached: number
  /** Of these, chunks whose vector stood in the index, or was made for an equal text of the same call. */
  chunksReused: number
  tokens: number
  commits: number
  elapsedMs: number
  /** Of late; `null` until it can be told. */
  chunksPerSecond: number | null
  /** What the rest will take at the pace of late; `null` until it can be told. */
  remainingMs: number | null
}
export interface SkippedDocument { documentId: string; reason: string }
/** A document that could not be added; an older version of it still stands. */
export interface FailedDocument { documentId: string; error: Failure }
export type AddEvent =
  | ({ type: 'progress' } & AddProgress)
  | ({ type: 'skipped' } & SkippedDocument)
  | ({ type: 'failed' } & FailedDocument)
export interface AddReport {
  progress: AddProgress
  /** Documents left out, but for unchanged ones. */
  skipped: SkippedDocument[]
  /** Documents that could not be added; the others are in. */
  failed: FailedDocument[]
}
export interface AddOptions extends CallOptions {
  /** Called at each step. What it throws stops the work and rejects the call. */
  onProgress?: (event: AddEvent) => void
  /** 4,096, or what 5 seconds bring; a document is never split between commits. */
  chunksPerCommit?: number
  /** Whether the first document that cannot be added rejects the call with its error; it is reported otherwise. */
  stopsAtError?: boolean
}

export interface SyncProgress {
  filesTotal: number
  filesDone: number
  filesAdded: number
  filesUpdated: number
  /** Files that were only moved: nothing was embedded for them. */
  filesRenamed: number
  filesUnchanged: number
  filesSkipped: number
  documentsRemoved: number
  chunks: number
  chunksCached: number
  chunksReused: number
  tokens: number
  commits: number
  elapsedMs: number
  chunksPerSecond: number | null
  remainingMs: number | null
}
export interface SkippedFile { uri: string; reason: string }
export type SyncEvent = ({ type: 'progress' } & SyncProgress) | ({ type: 'skipped' } & SkippedFile)
/** A file that was moved: the id its document had, and the one it has now. */
export interface RenamedFile { from: string; to: string }
export interface SyncReport {
  progress: SyncProgress
  skipped: SkippedFile[]
  /** Ids of documents that were deleted. */
  removed: string[]
  /** Ids of new documents. */
  added: string[]
  /** Ids of documents whose file changed. */
  updated: string[]
  renamed: RenamedFile[]
}
/** What a `sync` would do. */
export interface SyncPlan {
  added: string[]
  updated: string[]
  renamed: RenamedFile[]
  removed: string[]
  /** How many files stand in the index as they are. */
  unchanged: number
  skipped: SkippedFile[]
}
export interface PlanOptions extends CallOptions {
  /** Whether documents whose files are gone are deleted; they are. */
  removes?: boolean
  /** Whether a folder may have lost all its files; such a sync is refused otherwise. */
  allowsEmpty?: boolean
}
export interface SyncOptions extends PlanOptions {
  onProgress?: (event: SyncEvent) => void
  chunksPerCommit?: number
}

export interface CollectionOptions extends CallOptions {
  /** Makes the vectors; MiniLm where absent, and `null` searches words alone. */
  embedder?: Embedder | null
  /** `local` where absent. */
  scope?: Scope
  /** Lower-case English name, or `neutral`; `english` where absent. Fixed when the index is made. */
  language?: string
  /** The same as `storage: 'codes'`. Fixed when the index is made. */
  codesOnly?: boolean
  /**
   * What is kept of a vector: `int16` where absent (2 bytes per dimension), `codes` alone (1, approximate scores), or `f32`
   * (5, the vectors as they came). Fixed when the index is made.
   */
  storage?: 'codes' | 'int16' | 'f32'
  /** How vectors are compared; `cosine` where absent. Fixed when the index is made. */
  metric?: 'cosine' | 'dot' | 'l2'
  fusion?: { zScore: { weight: number } } | { minMax: { weight: number } } | { reciprocalRank: { k: number } }
  /** How long chunks may be; what the embedder reads where absent. */
  chunks?: { maxTokens?: number; overlapTokens?: number }
  /** More vectors for every chunk, each by its name. Fixed when the index is made. */
  vectorFields?: { [name: string]: Embedder | VectorField }
}
/** Another vector of every chunk: by an embedder of its own, compared and kept in its own way. */
export interface VectorField {
  embedder: Embedder
  /** `cosine` where absent. */
  metric?: 'cosine' | 'dot' | 'l2'
  /** `int16` where absent. */
  storage?: 'codes' | 'int16' | 'f32'
}
/** A vector field beside the first, and how many chunks of the tenant have a vector of it. */
export interface VectorFieldStats { name: string; vectors: number; embedder: string; dimension: number }
export interface SearchOptions extends CallOptions {
  /** 10. */
  topK?: number
  filter?: Filter
  mode?: 'hybrid' | 'lexical' | 'dense'
  vector?: ArrayLike<number>
  /** Which vector field is searched by meaning; the first where absent. */
  vectorField?: string
  minScore?: number
  /** Hits below this relevance are left out, 0 to 1; the answer may then be empty. */
  minRelevance?: number
  /** What one hit stands for: a chunk, the best chunk of a document, or a document; `chunk` where absent. */
  unit?: 'chunk' | 'best_chunk' | 'document'
  /** Hits like those before them move down: 0 for not at all, 1 for difference alone. */
  diversity?: number
  /** Whether hits tell where the question's words stand in them. */
  highlight?: boolean
  /** Words side by side in the question count more where they stand so in a chunk. */
  phrases?: boolean
  /** Words that nothing has are searched with a letter wrong. */
  fuzzy?: boolean
  /** What is called like the question comes first. */
  exactFirst?: boolean
  /** The text is an expression for experts: `+must -not "side by side" title:word`. */
  expression?: boolean
}
/** How a segment of the index was searched by meaning, and why so. */
export interface SegmentSearch {
  /** Vectors of the segment, of all tenants. */
  vectors: number
  /** Of these, those that tenant and filter let through. */
  allowed: number
  strategy: string
  isExact: boolean
  reason: string
  /** Rows that a walk through the graph keeps; 0 without one. */
  ef: number
  compared: number
}
/** An answer with what was done for it. `segments` are for who runs the index, not for a tenant. */
export interface Explained { hits: Hit[]; allowed: number; segments: SegmentSearch[] }
/** How much of a document's text its stored chunks hold. */
export interface Coverage {
  documentId: string
  chunks: number
  /** The length of its text, where its chunker covered all of it. */
  textBytes: number | null
  /** Bytes of the text that are in no chunk. */
  gaps: Span[]
  /** Whether the chunks are numbered from 0, each once. */
  isNumbered: boolean
  /** Whether every byte of the text is proved to be in a chunk. */
  isWhole: boolean
}
/** What a collection holds of its tenant. */
export interface CollectionStats {
  documents: number
  chunks: number
  vectors: number
  embedder: string | null
  dimension: number
  /** Its other vector fields. */
  vectorFields: VectorFieldStats[]
}
/** The size of the index, which all tenants share. */
export interface IndexStats {
  segments: number
  chunks: number
  deletedChunks: number
  vectors: number
  bytes: number
  vectorBytes: number
}

/** Chunks with their two indexes (words and vectors), in a folder or in memory. */
export declare class Collection {
  private constructor()
  /** Opens the collection in a folder, or makes it. */
  static open(path: string, options?: CollectionOptions): Promise<Collection>
  static inMemory(options?: CollectionOptions): Promise<Collection>
  /** The same collection as another tenant sees it. */
  scoped(scope: Scope): Collection
  /** Adds documents, replacing those of the same id; unchanged ones are skipped. An aborted call keeps what was committed. */
  add(documents: Document | readonly Document[], options?: AddOptions): Promise<AddReport>
  /** Makes the collection hold what files and folders hold: text, Markdown, HTML, PDF, DOCX. */
  sync(paths: string | readonly string[], options?: SyncOptions): Promise<SyncReport>
  /** What `sync` would do with these paths now: files are read, but nothing is embedded or written. */
  planSync(paths: string | readonly string[], options?: PlanOptions): Promise<SyncPlan>
  /** The best hits, best first. */
  search(text: string, options?: SearchOptions): Promise<Hit[]>
  /** `search`, and how each segment of the index was searched by meaning: row by row or through its graph. */
  explain(text: string, options?: SearchOptions): Promise<Explained>
  /** Deletes documents by id; how many there were. */
  delete(ids: string | readonly string[]): Promise<number>
  deleteWhere(filter: Filter): Promise<number>
  /** How many chunks there are, or how many a filter lets through. */
  count(filter?: Filter, options?: CallOptions): Promise<number>
  documents(options?: CallOptions): Promise<{ id: string; contentHash: string; chunks: number }[]>
  /** How much of a document's text its stored chunks hold. */
  coverage(documentId: string, options?: CallOptions): Promise<Coverage>
  stats(options?: CallOptions): Promise<CollectionStats>
  /** How large the whole index is, whoever the chunks belong to: for who runs it, not for a tenant. */
  indexStats(options?: CallOptions): Promise<IndexStats>
  /** Merges all segments into one and frees what was deleted. */
  compact(): Promise<void>
  /** Reads every file against its checksums. */
  verify(options?: CallOptions): Promise<void>
}
