// Worker thread: owns the one WASM PostgreSQL backend.  It blocks in Atomics.wait
// when it has nothing to read, so the backend sees an ordinary blocking socket:
// COPY FROM STDIN streams, results stream, nothing has to be buffered whole.
import fs from 'node:fs'
import { fileURLToPath } from 'node:url'
import { parentPort, workerData, receiveMessageOnPort } from 'node:worker_threads'

const { dataDirectory: dataDir, database, ctlBuf } = workerData
const fsync = true, cancel = true
const pglite = new URL(`file://${workerData.package}/index.js`).href, extension = new URL(`file://${workerData.package}/timescaledb/index.js`).href
const ctl = new Int32Array(ctlBuf) // 0: inbox counter  1: bytes in flight to sockets  2: cancel flag
const IN = 0, FLIGHT = 1
const MAX_FLIGHT = 16 << 20, CHUNK = 64 << 10

// The WASM memory is made a SharedArrayBuffer, so that the main thread can set the backend's
// interrupt flags while a statement runs (cancel, statement timeout).  The binaries import an
// unshared memory: patch that one flag in the import section before they are compiled.
const leb = (b, o) => { let r = 0, s = 0, i = o; for (;;) { const x = b[i++]; r |= (x & 127) << s; s += 7; if (x < 128) return [r >>> 0, i] } }
const enc = (n) => { const r = []; do { let x = n & 127; n >>>= 7; r.push(n ? x | 128 : x) } while (n); return r }
const MAXPAGES = 32768
function shareImport(src) {
  const b = src instanceof ArrayBuffer ? new Uint8Array(src) : new Uint8Array(src.buffer, src.byteOffset, src.byteLength)
  let o = 8
  while (o < b.length) {
    const id = b[o]; const [len, body] = leb(b, o + 1)
    if (id === 2) {
      let [n, i] = leb(b, body)
      while (n--) {
        for (let k = 0; k < 2; k++) { const [l, j] = leb(b, i); i = j + l }
        const kind = b[i++]
        if (kind === 0) [, i] = leb(b, i)
        else if (kind === 3) i += 2
        else {
          if (kind === 1) i++
          const flags = b[i]; let [min, j] = leb(b, i + 1)
          const jmin = j
          if (flags & 1) [, j] = leb(b, j)
          if (kind === 2) {
            const part = [3, ...b.subarray(i + 1, jmin), ...enc(MAXPAGES)]
            const body2 = Buffer.concat([b.subarray(body, i), Buffer.from(part), b.subarray(j, body + len)])
            return { min, bytes: Buffer.concat([b.subarray(0, o + 1), Buffer.from(enc(body2.length)), body2, b.subarray(body + len)]) }
          }
          i = j
        }
      }
      break
    }
    o = body + len
  }
  return { min: 0, bytes: b }
}
let hookedMod = null
const { PGlite } = await import(pglite)
const { timescaledb } = await import(extension)
const options = {}
const patchImports = (imports) => {
  const env = imports?.env
  if (fsync && env?.__syscall_fdatasync) env.__syscall_fdatasync = (fd) => {
    const s = hookedMod?.FS.getStream(fd)
    if (s?.nfd !== undefined) fs.fdatasyncSync(s.nfd)
    return 0
  }
}
{
  const { instantiate, Module } = WebAssembly
  const conv = (src) => (cancel && !(src instanceof Module) ? shareImport(src).bytes : src)
  WebAssembly.instantiate = (src, imports) => { patchImports(imports); return instantiate(conv(src), imports) }
  WebAssembly.Module = new Proxy(Module, { construct: (t, [src]) => new t(conv(src)) })
}
let memory
const shared = { name: 'shared-memory', setup: async (_pg, emscriptenOpts) => {
  if (!cancel) return {}
  const main = fs.readFileSync(fileURLToPath(new URL('./pglite.wasm', pglite)))
  memory = new WebAssembly.Memory({ initial: Math.max(shareImport(main).min, 2048), maximum: MAXPAGES, shared: true })
  return { emscriptenOpts: { ...emscriptenOpts, wasmMemory: memory } }
} }
const more = {}
for (const n of ['btree_gist']) more[n] = new URL(`./${n}.tar.gz`, pglite)
const pg = await PGlite.create({ dataDir, database, extensions: { shared, timescaledb, ...more } })
const mod = (hookedMod = pg.Module)
// The build has a 64 kB C stack right above its globals and no working max_stack_depth: a PL/pgSQL
// recursion of ~50 levels silently overwrites them.  Use a big block instead; V8's own stack limit
// (resourceLimits.stackSizeMb) is then reached first and ends the worker, which is safe.
{ const n = 128 << 20, p = mod._malloc(n); mod.___stack_pointer.value = (p + n) & ~15 }
if (fsync) mod.FS.filesystems.NODEFS.stream_ops.fsync = (s) => { if (s.nfd !== undefined) fs.fsyncSync(s.nfd); return 0 }

let inbox = [], later = [], seen = 0, cur = null, off = 0
let out = Buffer.allocUnsafe(CHUNK), olen = 0

function flush() {
  if (!olen) return
  const b = new Uint8Array(olen)
  b.set(out.subarray(0, olen))
  post(b)
  olen = 0
}
function post(b) {
  let v = Atomics.add(ctl, FLIGHT, b.length) + b.length
  parentPort.postMessage(b, [b.buffer])
  while (v > MAX_FLIGHT) { Atomics.wait(ctl, FLIGHT, v, 1000); v = Atomics.load(ctl, FLIGHT) }
}
function next() {
  // Blocks until the main thread posts another message.
  for (;;) {
    if (inbox.length) return inbox.shift()
    seen = Atomics.load(ctl, IN)
    let m
    while ((m = receiveMessageOnPort(parentPort))) inbox.push(m.message)
    if (!inbox.length) Atomics.wait(ctl, IN, seen)
  }
}
const read = mod.addFunction((ptr, max) => {
  while (!cur || off >= cur.length) {
    flush()
    const m = next()
    if (!(m instanceof Uint8Array)) { later.push(m); continue }
    cur = m; off = 0
  }
  const n = Math.min(max, cur.length - off)
  mod.HEAPU8.set(cur.subarray(off, off + n), ptr)
  off += n
  return n
}, 'iii')
const write = mod.addFunction((ptr, len) => {
  if (len > CHUNK) { flush(); post(mod.HEAPU8.slice(ptr, ptr + len)); return len }
  if (olen + len > CHUNK) flush()
  out.set(mod.HEAPU8.subarray(ptr, ptr + len), olen)
  olen += len
  return len
}, 'iii')
mod._set_read_write_cbs(read, write)
parentPort.postMessage({ ready: true, memory, interrupt: mod._InterruptPending, size: mod.HEAPU8.length })

for (;;) {
  const m = later.shift() ?? next()
  if (m instanceof Uint8Array) {
    if (m[0] === 100 || m[0] === 99 || m[0] === 102) continue // CopyData, CopyDone, CopyFail of a COPY that is over
    // a cancel that came too late must not hit the next statement
    if (memory && mod.HEAP32[(mod._InterruptPending >> 2) + 1]) mod.HEAP32[(mod._InterruptPending >> 2) + 1] = 0
    cur = m; off = 0
    mod._interactive_one(m.length, m[0])
    flush()
  } else if (m.close) {
    break
  } else if (m.mem) {
    parentPort.postMessage({ mem: mod.HEAPU8.length, usage: process.memoryUsage() })
  }
}
// PGlite's own close() would use the callbacks that we replaced
const ended = (f) => { try { f() } catch (e) { if (e?.name !== 'ExitStatus') parentPort.postMessage({ error: String(e) }) } }
cur = new Uint8Array([88, 0, 0, 0, 4]); off = 0
ended(() => mod._interactive_one(5, 88))
ended(() => mod._pgl_shutdown())
ended(() => mod.FS.quit())
parentPort.postMessage({ closed: true })
