// The main thread's end of the backend.
import { Worker } from 'node:worker_threads'
import { POSTED, SLOTS, UNREAD, UNSENT, WAITING } from './shared.mjs'

// V8's stack is the backend's recursion limit (see backend.mjs); its usual size is far too small for that.
const STACK_MEGABYTES = 64

export class Backend {
  #numbers = new Int32Array(new SharedArrayBuffer(4 * SLOTS))
  #interruptFlags = null
  #worker

  constructor(options, { onReady, onBytes, onClosed, onCrash }) {
    this.#worker = new Worker(new URL('./backend.mjs', import.meta.url), {
      workerData: { ...options, numbers: this.#numbers },
      resourceLimits: { stackSizeMb: STACK_MEGABYTES },
    })
    this.#worker.on('error', onCrash)
    this.#worker.on('exit', (code) => onCrash(new Error(`its thread ended with ${code}`)))
    this.#worker.on('message', (message) => {
      if (message instanceof Uint8Array) {
        onBytes(Buffer.from(message.buffer, message.byteOffset, message.length))
      } else if (message.ready) {
        this.#interruptFlags = new Int32Array(message.memory.buffer, message.interruptFlags, 2)
        onReady()
      } else if (message.closed) {
        onClosed()
      }
    })
  }

  send(bytes) {
    const copy = new Uint8Array(bytes) // a socket's chunks share a buffer, which cannot be handed over in part
    Atomics.add(this.#numbers, UNREAD, copy.length)
    this.#post(copy, [copy.buffer])
  }

  close() {
    this.#post({ close: true }, [])
  }

  #post(message, transferred) {
    this.#worker.postMessage(message, transferred)
    Atomics.add(this.#numbers, POSTED, 1)
    Atomics.notify(this.#numbers, POSTED)
  }

  // Bytes from the backend have left; it stops producing when too many have not.
  sent(count) {
    Atomics.sub(this.#numbers, UNSENT, count)
    Atomics.notify(this.#numbers, UNSENT)
  }

  get unreadBytes() {
    return Atomics.load(this.#numbers, UNREAD)
  }

  // Whether the backend can only go on when its client sends or takes something.
  get waitsForClient() {
    return Atomics.load(this.#numbers, WAITING) === 1 || Atomics.load(this.#numbers, UNSENT) > 0
  }

  // What the handler of SIGINT does in a native server; the running statement ends at its next check.
  interrupt() {
    Atomics.store(this.#interruptFlags, 1, 1) // QueryCancelPending
    Atomics.store(this.#interruptFlags, 0, 1) // InterruptPending
  }
}
