/** The native half, private to this package; written by `npm run build:types`. */

/** A switch that asks work to stop; the listener of an `AbortSignal` pulls it. */
export declare class Cancel {
  /** A switch of its own. */
  constructor()
  /** Asks everything that holds it to stop. */
  cancel(): void
}

/** Text → vector. */
export declare class Embedder {
  /** all-MiniLM-L6-v2 in process; loading takes about 50 ms, off the JavaScript thread. */
  static minilm(threads?: number | undefined | null): Promise<Embedder>
  /** What it makes, as JSON. */
  get info(): string
  /** The vectors of texts, row after row. */
  embed(texts: Array<string>, kind: string, cancel?: Cancel | undefined | null): Promise<Float32Array>
}

/** A model that continues a conversation. */
export declare class Model {
  /** Which model, and what is known of it, as JSON. */
  get info(): string
  /** The whole answer, as JSON. */
  chat(request: string, cancel?: Cancel | undefined | null): Promise<string>
  /** The answer as it comes. The outcome is the whole answer. */
  stream(request: string): NativeStream
  /** How many tokens a request has, as JSON of a usage. */
  countTokens(request: string, cancel?: Cancel | undefined | null): Promise<string>
  /** The model of a name such as `anthropic/claude-sonnet-5`, its key read from the environment. */
  static named(name: string): Model
  /** A model of Anthropic. */
  static anthropic(model: string, options: string): Model
  /** A model of OpenAI, or of a server that speaks its wire. */
  static openai(model: string, options: string): Model
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
  /** Checks everything, so that faults are told where the agent is made. */
  check(): void
  /** Runs it; the result as JSON. A pulled switch stops the run in good order. */
  run(input: string, options: string, dispatch: (message: string) => string | Promise<string>, cancel: Cancel): Promise<string>
  /** Runs it and gives what happens. The outcome is the result. */
  stream(input: string, options: string, dispatch: (message: string) => string | Promise<string>): NativeStream
}

/** Chunks with their two indexes, in a folder or in memory. */
export declare class NativeCollection {
  /** Opens a collection, or makes it. */
  static open(options: string, embedder?: Embedder | undefined | null, cancel?: Cancel | undefined | null): Promise<NativeCollection>
  /** The same collection as another tenant sees it. */
  scoped(scope: string): NativeCollection
  /** A tool that searches it. */
  tool(name: string, options: string): SearchTool
  /** Adds documents (a JSON list). The items are progress events, the outcome is the report. */
  add(documents: string, chunksPerCommit: number | undefined | null, cancel: Cancel): NativeStream
  /** Makes the collection hold what files and folders hold. The items are progress events, the outcome is the report. */
  sync(paths: Array<string>, options: string, cancel: Cancel): NativeStream
  /** The best hits for a question, best first, as JSON. */
  search(query: string, cancel?: Cancel | undefined | null): Promise<string>
  /** Deletes documents by id; how many there were. */
  delete(ids: Array<string>): Promise<number>
  /** Deletes every document of which a chunk passes the filter; how many there were. */
  deleteWhere(filter: string): Promise<number>
  /** How many chunks there are, or how many a filter lets through. */
  count(filter?: string | undefined | null, cancel?: Cancel | undefined | null): Promise<number>
  /** All documents by id, as JSON. */
  documents(cancel?: Cancel | undefined | null): Promise<string>
  /** How large it is, as JSON. */
  stats(cancel?: Cancel | undefined | null): Promise<string>
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

/** Tells whoever watches the run how far a call is; nothing when it has ended. */
export declare function toolProgress(call: number, progress: string): void

/** Checks a tool's name and schema where it is declared, not at its first run. */
export declare function checkTool(tool: string): void
