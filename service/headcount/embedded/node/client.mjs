// One client's connection: its socket, its startup, and what the server remembers of its session.
import crypto from 'node:crypto'
import {
  Framer,
  cstring,
  error,
  int32,
  message,
  parameterStatus,
  readString,
  readyForQuery,
  typeOf,
} from './protocol.mjs'

const LONGEST_STARTUP = 10_000 // as in PostgreSQL; a browser's request reads as a far longer one
const MOST_QUEUED_BYTES = 1 << 20
const PROTOCOL_3 = 3
const SSL_REQUEST = 80877103
const GSS_REQUEST = 80877104
const CANCEL_REQUEST = 80877102

const NOT_SETTINGS = ['user', 'database', 'options', 'replication']

let lastId = 0

export class Client {
  id = ++lastId
  secret = crypto.randomInt(2 ** 31 - 1)
  state = 'startup' // startup | ready | gone

  queue = [] // messages that the backend has not got yet
  queuedBytes = 0

  user = 'postgres'
  startSettings = new Map() // the settings that the connection began with
  startRole = 'none'
  session = null // {settings, role, user} as last read from the backend; null: as at the start
  changed = false // the session may have changed since it was last read
  resets = false // a RESET ran: what the connection began with has to be put back
  resetsRole = false

  statements = new Map() // the backend's names of this client's prepared statements
  statementCount = 0
  unnamed = null // the Parse message of this client's unnamed statement
  listenOf = new Map() // statement name -> its LISTEN or UNLISTEN
  listenOfPortal = new Map()
  channels = new Set()
  notifications = [] // for the end of the running unit
  temporary = false // it may have made temporary tables

  executed = false // since the last Sync
  skipping = false // after an error, up to the client's Sync
  synced = true // the last Sync was the client's own
  timedOut = false

  #framer = new Framer(false)

  // `server` has: database, parameters, ready(client), received(client), gone(client), cancel(id, secret)
  constructor(socket, server) {
    this.socket = socket
    this.server = server
    this.#framer.highestLength = LONGEST_STARTUP
    socket.setNoDelay(true)
    socket.on('data', (chunk) => this.#onData(chunk))
    socket.on('error', () => {}) // 'close' follows
    socket.on('close', () => this.leave())
  }

  get gone() {
    return this.state === 'gone'
  }

  send(bytes, done) {
    if (this.gone) done?.()
    else this.socket.write(bytes, done)
  }

  // Ends the connection with an error that the client can show.
  fail(code, text) {
    if (this.gone) return
    this.queue.length = this.queuedBytes = 0
    this.socket.end(error('FATAL', code, text))
    setTimeout(() => this.socket.destroy(), 1000).unref() // a client that reads nothing
    this.leave()
  }

  leave() {
    if (this.gone) return
    const wasReady = this.state === 'ready'
    this.state = 'gone'
    if (wasReady) this.server.gone(this)
  }

  take() {
    const bytes = this.queue.shift()
    if (bytes === undefined) return undefined
    this.queuedBytes -= bytes.length
    if (this.queuedBytes <= MOST_QUEUED_BYTES && this.socket.isPaused()) this.socket.resume()
    return bytes
  }

  #onData(chunk) {
    this.#framer.push(chunk)
    try {
      for (let bytes; !this.gone && (bytes = this.#framer.next()); ) {
        if (this.state === 'startup') this.#onStartup(bytes)
        else this.#onMessage(bytes)
      }
    } catch (failure) {
      this.fail('08P01', failure.message)
    }
  }

  #onMessage(bytes) {
    if (typeOf(bytes) === 'X') {
      this.socket.end()
      this.leave()
      return
    }
    this.queue.push(bytes)
    this.queuedBytes += bytes.length
    if (this.queuedBytes > MOST_QUEUED_BYTES) this.socket.pause()
    this.server.received(this)
  }

  #onStartup(bytes) {
    const code = bytes.readInt32BE(4)
    if (code === SSL_REQUEST || code === GSS_REQUEST) {
      this.socket.write('N')
      return
    }
    if (code === CANCEL_REQUEST) {
      this.server.cancel(bytes.readInt32BE(8), bytes.readInt32BE(12))
      this.socket.end()
      return
    }
    if (code >> 16 !== PROTOCOL_3) {
      this.fail('0A000', 'unsupported frontend protocol')
      return
    }
    this.#readStartup(bytes)
    if (this.database !== this.server.database) {
      this.fail('3D000', `database "${this.database}" does not exist`)
      return
    }
    const minorVersion = code & 0xffff
    if (minorVersion > 0) this.socket.write(message('v', int32(0), int32(0))) // 3.0 is spoken here
    this.#welcome()
  }

  #readStartup(bytes) {
    const given = new Map()
    let offset = 8
    while (bytes[offset]) {
      let name, value
      ;[name, offset] = readString(bytes, offset)
      ;[value, offset] = readString(bytes, offset)
      given.set(name, value)
    }
    this.user = given.get('user') ?? this.user
    this.database = given.get('database') ?? this.user
    for (const [name, value] of given) {
      if (!NOT_SETTINGS.includes(name) && !name.startsWith('_pq_.')) this.#setAtStart(name, value)
    }
    const commandLine = given.get('options') ?? ''
    for (const [, name, value] of commandLine.matchAll(/(?:-c\s*|--)([\w.]+)=((?:\\.|\S)*)/g)) {
      this.#setAtStart(name, value.replace(/\\(.)/g, '$1'))
    }
  }

  #setAtStart(name, value) {
    if (name.toLowerCase() === 'role') this.startRole = value
    else this.startSettings.set(name.toLowerCase(), value)
  }

  #welcome() {
    this.state = 'ready'
    this.#framer.typed = true
    this.#framer.highestLength = 1 << 30
    const parameters = {
      ...this.server.parameters,
      session_authorization: this.user,
      is_superuser: this.user === 'postgres' && this.startRole === 'none' ? 'on' : 'off',
    }
    for (const name of Object.keys(parameters)) {
      parameters[name] = this.startSettings.get(name.toLowerCase()) ?? parameters[name]
    }
    // asyncpg asks for 'utf-8'
    if (/^\W*utf\W?8\W*$/i.test(parameters.client_encoding)) parameters.client_encoding = 'UTF8'
    this.socket.write(
      Buffer.concat([
        message('R', int32(0)), // authenticated: who reaches the socket is trusted
        ...Object.entries(parameters).map(([name, value]) => parameterStatus(name, value)),
        message('K', int32(this.id), int32(this.secret)),
        readyForQuery('I'),
      ]),
    )
    this.server.ready(this)
  }
}
