// A client that others wrote, put through its paces against a server of ours. Prints one line of JSON.
//
//   node client.mjs stdio PROGRAM [ARGUMENT ...]
//   node client.mjs http ADDRESS [TOKEN]
import { Client } from '@modelcontextprotocol/sdk/client/index.js'
import { StdioClientTransport } from '@modelcontextprotocol/sdk/client/stdio.js'
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js'

const [kind, where, ...rest] = process.argv.slice(2)
const transport = kind === 'stdio'
  ? new StdioClientTransport({ command: where, args: rest })
  : new StreamableHTTPClientTransport(new URL(where), {
    requestInit: rest[0] ? { headers: { authorization: `Bearer ${rest[0]}` } } : {},
  })
const client = new Client({ name: 'a real client', version: '1.0.0' })
const failure = (promise) => promise.then(() => 'no failure', (error) => ({ code: error.code, message: error.message }))

await client.connect(transport)
const seen = { server: client.getServerVersion(), instructions: client.getInstructions() }
seen.tools = (await client.listTools()).tools
seen.sum = await client.callTool({ name: 'add', arguments: { a: 2, b: 3 } })
seen.misfit = await client.callTool({ name: 'add', arguments: { a: 'two', b: 3 } })
seen.unknown = await failure(client.callTool({ name: 'no-such-tool', arguments: {} }))
seen.progress = []
seen.counted = await client.callTool({ name: 'count', arguments: { to: 5 } }, undefined, { onprogress: (told) => seen.progress.push(told) })
const stop = new AbortController()
setTimeout(() => stop.abort('enough'), 150)
seen.stopped = await failure(client.callTool({ name: 'count', arguments: { to: 1000 } }, undefined, { signal: stop.signal }))
seen.beside = await Promise.all([1, 2, 3, 4].map((n) => client.callTool({ name: 'add', arguments: { a: n, b: n } })))
seen.answer = await client.callTool({ name: 'parrot', arguments: { question: 'Who?' } })
await client.close()
console.log(JSON.stringify(seen))
