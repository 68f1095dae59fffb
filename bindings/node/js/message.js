'use strict'
// Messages are plain data; these make the common ones and read their words.

const say = (role, origin) => (text) => ({ role, parts: [{ type: 'text', text: String(text), origin }] })

const Message = Object.freeze({
  system: say('system', 'system'),
  user: say('user', 'user'),
  assistant: say('assistant', 'model'),
  text: (message) => message.parts.map((part) => (part.type === 'text' ? part.text : '')).join(''),
})

module.exports = { Message }
