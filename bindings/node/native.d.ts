/** The native half, private to this package; written by `npm run build:types`. */

/** Which endpoints are down, shared by all models it is around. */
export declare class Breaker {
  /** With these options, as JSON. */
  constructor(options: string)
}

/** What may be spent, shared by all models it is around. */
export declare class Budget {
  /** With these bounds, as JSON. */
  constructor(limits: string)
  /** What was spent so far, as JSON. */
  get spent(): string
}

/** Where answers are kept, so that they can be given again. */
export declare class Cache {
  /** In a SQLite file, made when it is not there; in memory without one. */
  constructor(path?: string | undefined | null)
}

/** A switch that asks work to stop; the listener of an `AbortSignal` pulls it. */
export declare class Cancel {
  /** A switch of its own. */
  constructor()
  /** Asks everything that holds it to stop. */
  cancel(): void
}

/** Calls to vendors, recorded to a file or played from it. */
export declare class Cassette {
  /** `mode` is `record`, `play` or `record_or_play`; how it plays is JSON. */
  constructor(mode: string, path: string, options: string)
  /** Whether it plays, and so needs no key. */
  get isPlaying(): boolean
}

/** Text → vector. */
export declare class Embedder {
  /** all-MiniLM-L6-v2 in process; loading takes about 50 ms, off the JavaScript thread. */
  static minilm(threads?: number | undefined | null): Promise<Embedder>
  /** The embedder of a name such as `voyage/voyage-4`. */
  static named(name: string, options?: string | undefined | null, cassette?: Cassette | undefined | null): Promise<Embedder>
  /** What it makes, as JSON. */
  get info(): string
  /** The vectors of texts, row after row. */
  embed(texts: Array<string>, kind: string, cancel?: Cancel | undefined | null): Promise<Float32Array>
}

/** Where a run that pauses is kept, until it goes on. */
export declare class Ended {
  /** One that holds nothing. */
  constructor()
  /** Whether a run waits in it. */
  get isPaused(): boolean
}

/** A model that continues a conversation. */
export declare class Model {
  /** Which model, and what is known of it, as JSON. */
  get info(): string
  /** The whole answer, as JSON. */
  chat(request: string, cancel?: Cancel | undefined | null): Promise<string>
  /** The answer as it comes. The outcome is the whole answer. */
  stream(request: string): NativeStream
  /** The answer in the shape that the request asks for, as JSON of `value` and `response`. */
  chatValue(request: string, cancel?: Cancel | undefined | null): Promise<string>
  /** How many tokens a request has, as JSON of a usage. */
  countTokens(request: string, cancel?: Cancel | undefined | null): Promise<string>
  /** Asks again when a call fails before its first word. */
  withRetry(options: string): Model
  /** Bounds the time to the first event, between events, and in all. */
  withTimeouts(options: string): Model
  /** Waits until the account may send the request. */
  withRateLimit(limiter: RateLimiter): Model
  /** Fails at once while the endpoint is down. */
  withBreaker(breaker: Breaker): Model
  /** Asks these models, in order, when this one cannot answer. */
  withFallback(others: Array<Model>, options: string): Model
  /** Gives answers again that were given to this tenant before. */
  withCache(cache: Cache, tenant: string | undefined | null, options: string): Model
  /** Spends from a budget. */
  withBudget(budget: Budget): Model
  /**
   * The model of a name such as `anthropic/claude-sonnet-5`. What the options, JSON, do not say comes from the
   * environment.
   */
  static named(name: string, options?: string | undefined | null, cassette?: Cassette | undefined | null): Model
  /** Answers with sentences of the documents. */
  static extractive(embedder?: Embedder | undefined | null): Model
}

/** A model and its tools, in a loop until the model answers. */
export declare class NativeAgent {
  /** An agent without tools yet. */
  constructor(model: Model, options: string)
  /** Gives it a tool that is a JavaScript function. */
  addTool(tool: string): void
  /** Gives it a search. */
  addSearch(tool: SearchTool): void
  /** Gives it another agent as a tool. */
  addAgent(agent: NativeAgent, tool: string): void
  /** Gives it the next of the models that its context policies name. */
  addModel(model: Model): void
  /** Lets it search there before its model is asked. */
  setContext(collection: NativeCollection): void
  /** Keeps the journals of its runs there. */
  setStore(store: RunStore): void
  /** Checks everything, so that faults are told where the agent is made. */
  check(): void
  /** What a model sees of it as a tool, as JSON. */
  toolSpec(tool: string): string
  /** The agent as a model, `agent/<name>`. */
  asModel(name: string, dispatch: (message: string) => string | Promise<string>): Model
  /**
   * Runs it; the result as JSON. A pulled switch stops the run in good order. Where `ended` holds a paused run, that
   * goes on; where the run pauses, `ended` holds it then.
   */
  run(input: string, options: string, dispatch: (message: string) => string | Promise<string>, cancel: Cancel, ended: Ended): Promise<string>
  /** Runs it and gives what happens. The outcome is the result. */
  stream(input: string, options: string, dispatch: (message: string) => string | Promise<string>, ended: Ended): NativeStream
}

/** Chunks with their two indexes, in a folder or in memory. */
export declare class NativeCollection {
  /** Opens a collection, or makes it. */
  static open(options: string, embedder: Embedder | undefined | null, fieldEmbedders: Array<Embedder>, cancel?: Cancel | undefined | null): Promise<NativeCollection>
  /** The same collection as another tenant sees it. */
  scoped(scope: string): NativeCollection
  /** A tool that searches it. */
  tool(name: string, options: string): SearchTool
  /** Adds documents (a JSON list). The items are progress events, the outcome is the report. */
  add(documents: string, options: string, cancel: Cancel): NativeStream
  /** Makes the collection hold what files and folders hold. The items are progress events, the outcome is the report. */
  sync(paths: Array<string>, options: string, cancel: Cancel): NativeStream
  /** What `sync` would do with these paths now, as JSON. */
  planSync(paths: Array<string>, options: string, cancel?: Cancel | undefined | null): Promise<string>
  /** The best hits for a question, best first, as JSON. */
  search(query: string, cancel?: Cancel | undefined | null): Promise<string>
  /** `search`, and how each segment was searched by meaning, as JSON. */
  explain(query: string, cancel?: Cancel | undefined | null): Promise<string>
  /** Deletes documents by id; how many there were. */
  delete(ids: Array<string>): Promise<number>
  /** Deletes every document of which a chunk passes the filter; how many there were. */
  deleteWhere(filter: string): Promise<number>
  /** How many chunks there are, or how many a filter lets through. */
  count(filter?: string | undefined | null, cancel?: Cancel | undefined | null): Promise<number>
  /** All documents by id, as JSON. */
  documents(cancel?: Cancel | undefined | null): Promise<string>
  /** How much of a document's text its stored chunks hold, as JSON. */
  coverage(documentId: string, cancel?: Cancel | undefined | null): Promise<string>
  /** How large it is, as JSON. */
  stats(cancel?: Cancel | undefined | null): Promise<string>
  /** How large the whole index is, whoever the chunks belong to, as JSON. */
  indexStats(cancel?: Cancel | undefined | null): Promise<string>
  /** Merges all segments into one and frees what was deleted. */
  compact(): Promise<void>
  /** Reads every file against its checksums. */
  verify(cancel?: Cancel | undefined | null): Promise<void>
}

/** A running stream of the engine; closing or dropping it stops the engine's side. */
export declare class NativeStream {
  /**
   * Everything that is ready, as a JSON array; empty when nothing is, null at the end. A failure comes alone,
   * after the items before it.
   */
  take(): string | null
  /** The words among what is ready, in one piece; the rest is dropped. */
  takeWords(): string | null
  /** Ends when `take` has something to say. */
  wait(): Promise<void>
  /** What the producer gave in the end, as JSON; null before the end. */
  outcome(): string | null
  /** Stops the engine's side and drops what was not taken. A pending `wait` ends. */
  close(): void
}

/** What an account may send, shared by all models it is around. */
export declare class RateLimiter {
  /** With these limits, as JSON. */
  constructor(options: string)
  /** How many calls of `vendor/model` wait, and how many run. */
  load(model: string): Array<number>
}

/** Hits in a better order. */
export declare class Reranker {
  /** The reranker of a name such as `voyage/rerank-2.5`. */
  static named(name: string, options?: string | undefined | null, cassette?: Cassette | undefined | null): Reranker
  /** The best hits for this question, as JSON like those that came. */
  rerank(question: string, hits: string, topK: number, cancel?: Cancel | undefined | null): Promise<string>
}

/** Where the journals of runs are kept. */
export declare class RunStore {
  /** In memory, or in the SQLite file of this path, made when it is not there. */
  constructor(path?: string | undefined | null)
}

/** A model that plays a script. */
export declare class Script {
  /** An empty script. */
  constructor(options: string)
  /** The next answer is this text. */
  say(text: string): void
  /** The next answer calls these tools: JSON of `[name, arguments]` pairs. */
  calls(calls: string): void
  /** The next request fails so, after these words if there are any. */
  fail(code: string, retryAfterMs?: number | undefined | null, after?: string | undefined | null): void
  /** The next answer begins with this text and breaks off without its end mark. */
  breakOff(text: string): void
  /** Every answer after the script's end is this text. */
  forever(text: string): void
  /** How many steps have not been played. */
  get remaining(): number
  /** What was asked so far, oldest first, as JSON: messages and the names of the tools. */
  get requests(): string
  /** The model that plays it. */
  model(): Model
}

/** A search that an agent may call. */
export declare class SearchTool {
  /** What the model sees, as JSON. */
  get spec(): string
}

/** Runs the command with the words after its name and gives its exit code. It blocks: it is the whole program. */
export declare function ask(words: Array<string>): number

/** Adds a server of the host's own that speaks Chat Completions. */
export declare function registerCompatible(vendor: string, baseUrl: string, quirks: string): void

/** Tells whoever watches the run how far a call is; nothing when it has ended. */
export declare function toolProgress(call: number, progress: string): void

/** Checks a tool's name and schema where it is declared, not at its first run. */
export declare function checkTool(tool: string): void
