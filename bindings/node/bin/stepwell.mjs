#!/usr/bin/env node
// `npx stepwell ask PATHS… "question"`: the engine's own command. It prints by itself; here are only its words and its code.
import { createRequire } from 'node:module'

const [command, ...words] = process.argv.slice(2)
if (command === 'ask') {
  const native = createRequire(import.meta.url)('../js/native.js')
  // Node's own handler of Ctrl-C raises the signal anew, and the engine's, which calls the one before it, would never
  // end. With a listener there is another one before it. The engine stops in good order and gives exit code 130.
  process.on('SIGINT', () => {})
  process.exitCode = native.ask(words)
} else {
  const isHelp = command === '--help' || command === '-h'
  const text = 'usage: stepwell ask PATHS… "QUESTION"\n\n`stepwell ask --help` tells its options.\n'
  ;(isHelp ? process.stdout : process.stderr).write(text)
  process.exitCode = isHelp ? 0 : 2
}
