'use strict'
// What models share (rate limiters, breakers, budgets, caches), cassettes, and what the program says of a vendor.
const native = require('./native.js')
const { guarded, invalid } = require('./errors.js')
const { settings } = require('./settings.js')
const { known } = require('./signal.js')

const natives = new WeakMap()

/** The native half of what a caller passed. */
function nativeOf(what, type, given) {
  if (!(given instanceof type)) throw invalid(what, `pass a ${type.name}`)
  return natives.get(given)
}

class RateLimiter {
  constructor(options) {
    const names = [
      'requestsPerMinute', 'tokensPerMinute', 'maxConcurrent', 'expectedOutputTokens', 'isAdaptive', 'maxWaitMs', 'maxWaiting',
    ]
    natives.set(this, guarded(() => new native.RateLimiter(JSON.stringify(settings('options', options, names)))))
  }

  load(model) {
    const [waiting, running] = natives.get(this).load(String(model))
    return { waiting, running }
  }
}

class Breaker {
  constructor(options) {
    const given = settings('options', options, ['failures', 'windowMs', 'openForMs'])
    natives.set(this, guarded(() => new native.Breaker(JSON.stringify(given))))
  }
}

class Budget {
  constructor(limits) {
    const given = known('limits', limits, ['microUsd', 'tokens', 'calls', 'timeMs'])
    natives.set(this, guarded(() => new native.Budget(JSON.stringify(given))))
  }

  get spent() {
    return JSON.parse(guarded(() => natives.get(this).spent))
  }
}

/** Where answers are kept: in a SQLite file, or in memory without a path. */
class Cache {
  constructor(options) {
    const { path } = known('options', options, ['path'])
    natives.set(this, guarded(() => new native.Cache(path === undefined ? undefined : String(path))))
  }
}

/** Calls to vendors, recorded to a file or played from it. */
class Cassette {
  constructor(mode, path, options) {
    const { faults = [], ...playing } = known('options', options, ['chunks', 'keepsTime', 'faults'])
    const given = {
      ...settings('options', playing, ['chunks', 'keepsTime']),
      faults: faults.map(({ call, fault }) => [call, faultOf(fault)]),
    }
    natives.set(this, guarded(() => new native.Cassette(mode, String(path), JSON.stringify(given))))
  }

  static record(path) {
    return new Cassette('record', path)
  }

  static play(path, options) {
    return new Cassette('play', path, options)
  }

  static recordOrPlay(path, options) {
    return new Cassette('record_or_play', path, options)
  }

  get isPlaying() {
    return natives.get(this).isPlaying
  }
}

function faultOf(fault) {
  if (fault === 'duplicateStart') return 'duplicate_start'
  const { status, retryAfterMs, ...at } = known('fault', fault, ['cutAt', 'resetAt', 'stallAt', 'status', 'retryAfterMs'])
  if (status !== undefined) return { status: { status, ...settings('fault', { retryAfterMs }, ['retryAfterMs']) } }
  return settings('fault', at, ['cutAt', 'resetAt', 'stallAt'])
}

const httpNames = [
  'connectTimeoutMs', 'firstEventTimeoutMs', 'idleTimeoutMs', 'totalTimeoutMs', 'maxResponseBytes', 'maxEventBytes',
  'maxLineBytes', 'proxy', 'rootCertificates',
]

/** What the program says of a vendor: JSON for the engine (`undefined` for nothing) and the cassette. */
function vendorOptions(options, more = []) {
  const { cassette, http, ...rest } = known('options', options, ['apiKey', 'baseUrl', 'headers', 'http', 'cassette', ...more])
  const given = settings('options', rest, ['apiKey', 'baseUrl', 'headers', ...more])
  if (http !== undefined) given.http = settings('http', http, httpNames)
  return [
    Object.keys(given).length > 0 ? JSON.stringify(given) : undefined,
    cassette === undefined ? undefined : nativeOf('cassette', Cassette, cassette),
  ]
}

module.exports = { Breaker, Budget, Cache, Cassette, RateLimiter, nativeOf, vendorOptions }
