// A thread that owns the one WebAssembly PostgreSQL backend. It blocks while it has nothing to read, so the
// backend sees an ordinary blocking socket: COPY streams in, results stream out, nothing is held whole.
import fs from 'node:fs'
import { pathToFileURL } from 'node:url'
import { parentPort, receiveMessageOnPort, workerData } from 'node:worker_threads'
import { POSTED, UNREAD, UNSENT, WAITING } from './shared.mjs'
import { HIGHEST_PAGES, shareMemory } from './shared-memory.mjs'
import { typeOf } from './protocol.mjs'

const { numbers } = workerData
const MOST_UNSENT_BYTES = 16 << 20
const CHUNK_BYTES = 64 << 10
const STACK_BYTES = 128 << 20

const packageFile = (name) => pathToFileURL(`${workerData.package}/${name}`)
const { PGlite } = await import(packageFile('index.js'))
const { timescaledb } = await import(packageFile('timescaledb/index.js'))

let postgres = null // the WebAssembly module, once it runs

// ---- what is changed in the build before it runs ----

// fdatasync does nothing in the build: a commit has to reach the disk, unless nobody keeps the database.
const { durable } = workerData
function fdatasync(descriptor) {
  const hostDescriptor = postgres?.FS.getStream(descriptor)?.nfd
  if (durable && hostDescriptor !== undefined) fs.fdatasyncSync(hostDescriptor)
  return 0
}

const { instantiate, Module } = WebAssembly
const withSharedMemory = (source) => (source instanceof Module ? source : shareMemory(source).bytes)
WebAssembly.instantiate = (source, imports) => {
  if (imports?.env?.__syscall_fdatasync) imports.env.__syscall_fdatasync = fdatasync
  return instantiate(withSharedMemory(source), imports)
}
WebAssembly.Module = new Proxy(Module, {
  construct: (target, [source]) => new target(withSharedMemory(source)),
})

let memory = null
const sharedMemory = {
  name: 'shared memory',
  setup: async (_postgres, emscriptenOpts) => {
    const { initial } = shareMemory(fs.readFileSync(packageFile('pglite.wasm')))
    memory = new WebAssembly.Memory({ initial: Math.max(initial, 2048), maximum: HIGHEST_PAGES, shared: true })
    return { emscriptenOpts: { ...emscriptenOpts, wasmMemory: memory } }
  },
}

const pglite = await PGlite.create({
  dataDir: workerData.dataDirectory,
  database: workerData.database,
  extensions: { sharedMemory, timescaledb, btree_gist: packageFile('btree_gist.tar.gz') },
})
postgres = pglite.Module

// The build has a small C stack right above its globals and no working max_stack_depth: a PL/pgSQL recursion
// of some dozen levels silently overwrites them. With a big block as the stack, V8's own stack limit is
// reached first; that ends this thread, which is safe.
const stack = postgres._malloc(STACK_BYTES)
postgres.___stack_pointer.value = (stack + STACK_BYTES) & ~15

postgres.FS.filesystems.NODEFS.stream_ops.fsync = (stream) => {
  if (durable && stream.nfd !== undefined) fs.fsyncSync(stream.nfd)
  return 0
}

// ---- the backend's socket ----

let inbox = []
let taken = 0 // how much of the inbox was taken

// The next message from the main thread; blocks until there is one.
function nextMessage() {
  for (;;) {
    if (taken < inbox.length) return inbox[taken++]
    inbox = []
    taken = 0
    const posted = Atomics.load(numbers, POSTED)
    for (let received; (received = receiveMessageOnPort(parentPort)); ) inbox.push(received.message)
    if (inbox.length) continue
    Atomics.store(numbers, WAITING, 1)
    Atomics.wait(numbers, POSTED, posted)
    Atomics.store(numbers, WAITING, 0)
  }
}

let input = new Uint8Array()
let inputOffset = 0
let closing = false

function setInput(bytes) {
  input = bytes
  inputOffset = 0
  Atomics.sub(numbers, UNREAD, bytes.length)
}

const read = postgres.addFunction((pointer, most) => {
  while (inputOffset >= input.length) {
    flush()
    const message = nextMessage()
    if (message instanceof Uint8Array) setInput(message)
    else closing = true // acted on when the statement is over
  }
  const count = Math.min(most, input.length - inputOffset)
  postgres.HEAPU8.set(input.subarray(inputOffset, inputOffset + count), pointer)
  inputOffset += count
  return count
}, 'iii')

const output = new Uint8Array(CHUNK_BYTES)
let outputSize = 0

const write = postgres.addFunction((pointer, count) => {
  const bytes = postgres.HEAPU8.subarray(pointer, pointer + count)
  if (outputSize + count > CHUNK_BYTES) flush()
  if (count > CHUNK_BYTES) {
    post(new Uint8Array(bytes))
  } else {
    output.set(bytes, outputSize)
    outputSize += count
  }
  return count
}, 'iii')

function flush() {
  if (outputSize) post(output.slice(0, outputSize))
  outputSize = 0
}

// Hands bytes to the main thread; blocks while the client does not take what it has.
function post(bytes) {
  let unsent = Atomics.add(numbers, UNSENT, bytes.length) + bytes.length
  parentPort.postMessage(bytes, [bytes.buffer])
  while (unsent > MOST_UNSENT_BYTES) {
    Atomics.wait(numbers, UNSENT, unsent)
    unsent = Atomics.load(numbers, UNSENT)
  }
}

postgres._set_read_write_cbs(read, write)
const interruptFlags = postgres._InterruptPending // QueryCancelPending is its neighbour
parentPort.postMessage({ ready: true, memory, interruptFlags })

let unitEnded = true
while (!closing) {
  const message = nextMessage()
  if (!(message instanceof Uint8Array)) break
  setInput(message)
  const type = typeOf(message)
  if ('dcf'.includes(type)) {
    inputOffset = input.length // what is left of a COPY that has failed
    continue
  }
  // A cancel that came too late must not hit the next statement.
  if (unitEnded) Atomics.store(postgres.HEAP32, (interruptFlags >> 2) + 1, 0)
  unitEnded = 'QSF'.includes(type)
  postgres._interactive_one(message.length, message[0])
  flush()
}

// ---- shutdown; PGlite's own close() would use the callbacks replaced above ----

function finish(step) {
  try {
    step()
  } catch (error) {
    if (error?.name !== 'ExitStatus') console.error(`while shutting down: ${error}`)
  }
}

const TERMINATE = new Uint8Array([88, 0, 0, 0, 4])
setInput(TERMINATE)
finish(() => postgres._interactive_one(TERMINATE.length, TERMINATE[0]))
finish(() => postgres._pgl_shutdown())
finish(() => postgres.FS.quit())
parentPort.postMessage({ closed: true })
