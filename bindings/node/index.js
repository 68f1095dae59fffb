'use strict'
// The package: one instance of every class, whether it was imported or required. `index.d.ts` has the types.
const { ProviderError, StepwellError, ToolError, classes } = require('./js/errors.js')
const { Agent, RunStream } = require('./js/agent.js')
const { Collection, Filter, retrieverTool } = require('./js/collection.js')
const { MiniLm } = require('./js/embedder.js')
const { Message } = require('./js/message.js')
const { ChatModel, ChatStream } = require('./js/model.js')
const { Anthropic, Extractive, OpenAi, Scripted, model } = require('./js/models.js')
const { tool } = require('./js/tool.js')

module.exports = {
  Agent, Anthropic, ChatModel, ChatStream, Collection, Extractive, Filter, Message, MiniLm, OpenAi, ProviderError, RunStream,
  Scripted, StepwellError, ToolError, model, retrieverTool, tool,
  ...classes,
}
