// Builds the addon with cargo and puts it beside this file: `node build.mjs [profile]`, `release` where none is named.
//
// napi's own command always builds for a named target, which shares nothing with the workspace's other builds.
// The types of the native half (`native.d.ts`, checked in) are written anew when `--types` is given.
import { spawnSync } from 'node:child_process'
import { copyFileSync, mkdtempSync, readFileSync, readdirSync, renameSync, rmSync, utimesSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const here = dirname(fileURLToPath(import.meta.url))
const withTypes = process.argv.includes('--types')
const profile = process.argv.slice(2).find((word) => !word.startsWith('-')) ?? 'release'
const { addonName } = createRequire(import.meta.url)('./js/platform.js')

const env = { ...process.env }
if (withTypes) {
  env.NAPI_TYPE_DEF_TMP_FOLDER = mkdtempSync(join(tmpdir(), 'stepwell-types-'))
  // The macros write the types while the crate compiles, so it has to.
  utimesSync(join(here, 'src/lib.rs'), new Date(), new Date())
}
const args = ['build', '-p', 'stepwell-node', '--profile', profile, '--message-format', 'json-render-diagnostics']
const built = spawnSync('cargo', args, { cwd: here, env, encoding: 'utf8', maxBuffer: 1 << 28, stdio: ['ignore', 'pipe', 'inherit'] })
if (built.error) throw new Error('cargo is needed to build stepwell', { cause: built.error })
if (built.status !== 0) process.exit(built.status ?? 1)

const artifact = built.stdout
  .split('\n')
  .filter((line) => line.startsWith('{'))
  .map((line) => JSON.parse(line))
  .filter(({ reason, target }) => reason === 'compiler-artifact' && target.name === 'stepwell_node')
  .flatMap(({ filenames }) => filenames)
  .find((name) => /\.(so|dylib|dll)$/.test(name))
if (artifact === undefined) throw new Error('cargo built no library')

// Copied aside, then renamed: a process that has the old addon mapped keeps it whole.
const addon = join(here, addonName())
copyFileSync(artifact, `${addon}.new`)
renameSync(`${addon}.new`, addon)
console.log(`built ${addon}`)

if (withTypes) {
  const folder = env.NAPI_TYPE_DEF_TMP_FOLDER
  const lines = readdirSync(folder).flatMap((name) => readFileSync(join(folder, name), 'utf8').trim().split('\n'))
  writeFileSync(join(here, 'native.d.ts'), declarations(lines.map((line) => JSON.parse(line))))
  rmSync(folder, { recursive: true })
}

/** What the macros tell of each item, one after another: classes (a `struct` and its `impl`s) and functions. */
function declarations(items) {
  const parts = ['/** The native half, private to this package; written by `npm run build:types`. */\n']
  const classes = items.filter(({ kind }) => kind === 'struct')
  for (const { name, js_doc: about } of classes.sort((a, b) => a.name.localeCompare(b.name))) {
    const impls = items.filter((item) => item.kind === 'impl' && item.name === name)
    const body = impls.map(({ def }) => def).join('\n').split('\n')
    const members = body.map((line) => `  ${/^ [^*]/.test(line) ? line.slice(1) : line}\n`).join('')
    parts.push(`${about}export declare class ${name} {\n${members}}\n`)
  }
  for (const { js_doc: about, def } of items.filter(({ kind }) => kind === 'fn')) parts.push(`${about}export declare ${def}\n`)
  return parts.join('\n')
}
