'use strict'
// The package: one instance of every class, whether it was imported or required. `index.d.ts` has the types.
const { ProviderError, StepwellError, ToolError, classes } = require('./js/errors.js')
const { Agent, Approval, RunStore, RunStream, registerAgent } = require('./js/agent.js')
const { Collection, Filter, retrieverTool } = require('./js/collection.js')
const { Embedder, MiniLm, embedder } = require('./js/embedder.js')
const { Breaker, Budget, Cache, Cassette, RateLimiter } = require('./js/layers.js')
const { Message } = require('./js/message.js')
const { ChatModel, ChatStream } = require('./js/model.js')
const { Anthropic, Extractive, OpenAi, Scripted, model, register, registerCompatible } = require('./js/models.js')
const { Reranker, reranker } = require('./js/reranker.js')
const { tool } = require('./js/tool.js')

module.exports = {
  Agent, Anthropic, Approval, Breaker, Budget, Cache, Cassette, ChatModel, ChatStream, Collection, Embedder, Extractive, Filter, Message,
  MiniLm, OpenAi, ProviderError, RateLimiter, Reranker, RunStore, RunStream, Scripted, StepwellError, ToolError, embedder, model,
  register, registerAgent, registerCompatible, reranker, retrieverTool, tool,
  ...classes,
}
