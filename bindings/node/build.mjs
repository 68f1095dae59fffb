// Builds the addon with cargo and puts it beside this file: `node build.mjs [profile]`, `release` where none is named.
//
// `napi build` always builds for a named target, which shares nothing with the workspace's other builds; this one does.
// The types of the native half (`native.d.ts`, checked in) are written anew when `--types` is given.
import { spawnSync } from 'node:child_process'
import { copyFileSync, mkdtempSync, renameSync, rmSync, utimesSync, writeFileSync } from 'node:fs'
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
  const { generateTypeDef } = await import('@napi-rs/cli')
  const { dts } = await generateTypeDef({ cwd: here, typeDefDir: env.NAPI_TYPE_DEF_TMP_FOLDER, constEnum: false })
  writeFileSync(join(here, 'native.d.ts'), dts)
  rmSync(env.NAPI_TYPE_DEF_TMP_FOLDER, { recursive: true })
}
