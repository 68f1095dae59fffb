'use strict'
// The addon of this platform: beside the package when built from source, else from the platform's own package.
const { addonName, platformName } = require('./platform.js')

/** @returns {typeof import('../native')} */
function load() {
  const tries = [`../${addonName()}`, `stepwell-${platformName()}`]
  const faults = []
  for (const name of tries) {
    try {
      return require(name)
    } catch (error) {
      faults.push(error)
    }
  }
  const missing = faults.every((error) => error.code === 'MODULE_NOT_FOUND')
  const hint = missing
    ? `Install \`stepwell-${platformName()}\` (a lock file from another platform may leave it out: install again without it), or build from source with \`npm run build\`.`
    : 'It is there and cannot be loaded; the cause tells why.'
  throw new Error(`stepwell has no addon for ${platformName()}. ${hint}`, {
    cause: faults.find((error) => error.code !== 'MODULE_NOT_FOUND') ?? faults[0],
  })
}

module.exports = load()
