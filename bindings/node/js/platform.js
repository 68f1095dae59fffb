'use strict'

/** Alpine and its like: Node says which glibc it runs on, and musl has none. */
function isMusl() {
  if (process.platform !== 'linux') return false
  const { header } = process.report.getReport()
  return !header.glibcVersionRuntime
}

/** Such as `linux-x64-gnu`: what the file and the package of this platform's addon end in. */
function platformName() {
  const { platform, arch } = process
  if (platform === 'linux') return `linux-${arch}-${isMusl() ? 'musl' : 'gnu'}`
  return platform === 'win32' ? `win32-${arch}-msvc` : `${platform}-${arch}`
}

const addonName = () => `stepwell.${platformName()}.node`

module.exports = { addonName, platformName }
