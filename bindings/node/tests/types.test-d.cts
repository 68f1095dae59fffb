// The same types through `require`.
import stepwell = require('stepwell')

const model: stepwell.ChatModel = new stepwell.Scripted().say('hi')
void model.chat('hi').then((answer) => answer.usage.inputTokens?.toFixed())
