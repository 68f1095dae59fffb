'use strict'
const { invalid } = require('./errors.js')
const { known } = require('./signal.js')

const snake = (name) => name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`)

/**
 * Options as the engine reads them, as JSON: words apart by `_`, times in seconds (`maxWaitMs` is its `max_wait`). Names
 * are checked here, where they are the caller's own.
 */
function settings(what, options, names) {
  const given = Object.entries(known(what, options, names)).filter(([, value]) => value !== undefined)
  return Object.fromEntries(given.map(([name, value]) => {
    if (!name.endsWith('Ms')) return [snake(name), value]
    if (value !== null && !(typeof value === 'number' && value >= 0)) throw invalid(name, 'give milliseconds, 0 or more')
    return [snake(name.slice(0, -2)), value === null ? null : value / 1000]
  }))
}

module.exports = { settings }
