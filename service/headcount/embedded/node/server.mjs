// A PostgreSQL wire server in front of one backend (backend.mjs). The backend belongs to one client from that
// client's first message until it is out of its transaction; then the next one gets it, with its own session
// settings put in place.
// usage: node server.mjs '{"package": ..., "dataDirectory": ..., "database": ..., "socket": ..., "port": ...,
//                          "idleInTransactionSeconds": ..., "checkpointSeconds": ...}'
import fs from 'node:fs'
import net from 'node:net'
import { Client } from './client.mjs'
import { Backend } from './link.mjs'
import {
  COPY_FAIL,
  Framer,
  SYNC,
  commandComplete,
  cstring,
  error,
  message,
  query,
  readFields,
  readRow,
  readString,
  readyForQuery,
  typeOf,
} from './protocol.mjs'
import * as sql from './sql.mjs'

const options = JSON.parse(process.argv[2])

const CRASHED = 70
const STOP_MILLISECONDS = 10_000
const MOST_UNREAD_BYTES = 16 << 20

// The build boots with settings of its own, some of them odd, and reads no configuration file.
const BASELINE = {
  allow_system_table_mods: 'off',
  client_min_messages: 'notice',
  enable_seqscan: 'on',
  search_path: '"$user", public',
  timezone: 'UTC',
}

// Parameters that clients are told when they connect.
const REPORTED = [
  'server_version',
  'server_encoding',
  'client_encoding',
  'DateStyle',
  'TimeZone',
  'integer_datetimes',
  'standard_conforming_strings',
  'IntervalStyle',
  'application_name',
  'in_hot_standby',
  'default_transaction_read_only',
  'scram_iterations',
]

// What asyncpg sends when a pooled connection is released, and its answer where nothing has to be reset.
const ASYNCPG_RESET = 'SELECT pg_advisory_unlock_all();\nCLOSE ALL;\nUNLISTEN *;\nRESET ALL;'
const ASYNCPG_RESET_DONE = Buffer.concat([
  ...['SELECT 1', 'CLOSE CURSOR ALL', 'UNLISTEN', 'RESET'].map(commandComplete),
  readyForQuery('I'),
])
const DEBUG_NOTICE = 'M# 1743: aborting transaction' // debug output of the build

// ---- state of the one backend ----

const clients = new Map()
let waiting = [] // clients with work, in the order of their turns
let owner = null // the client that has the backend
let serving = false // the owner's messages go to the backend; else the server works on the session
let stopping = false
let open = false // past startup

let transaction = 'I' // the backend's transaction status
let unsynced = false // messages were sent that only a Sync ends
let unitsSent = 0 // what ReadyForQuery will answer, and has answered
let unitsDone = 0
const hiddenUnits = new Set() // those that end with a Sync of our own
const parsesSent = [] // ParseComplete messages to come: {unit, hidden}
let extended = false // the last thing sent was the extended protocol's
let copying = false // a COPY of the extended protocol takes data: the backend swallows Syncs until its end

let sessionOf = null // the client whose session settings the backend has
let settingsInForce = '' // what was last put in place, as a key; '' when that is not known
let unnamedOf = null // the client whose unnamed statement the backend has
let relisten = false
const customSettings = new Set()

let ownQuery = null // the server's own query that runs: {rows, failure, resolve}
let lastMovement = 0 // when the owner last sent or took something
let statementTimer = null
let sendOnTimer = null
let checkpointDue = false

const busy = () => unitsSent > unitsDone
const outOfTransaction = () => !busy() && !unsynced && transaction === 'I'

const backend = new Backend(options, {
  onReady: start,
  onBytes: onBackendBytes,
  onClosed: () => process.exit(0),
  onCrash: (failure) => {
    console.log(`the backend crashed: ${failure.message}`)
    process.exit(CRASHED)
  },
})

// Runs SQL for the server itself, while no client is served.
function run(text) {
  unnamedOf = null // a simple query drops the unnamed statement
  return new Promise((resolve) => {
    ownQuery = { rows: [], failure: null, resolve }
    backend.send(query(text))
  })
}

// ---- from the backend ----

const fromBackend = new Framer(true)

function onBackendBytes(chunk) {
  const receiver = ownQuery ? null : owner
  const pieces = []
  fromBackend.push(chunk)
  for (let bytes; (bytes = fromBackend.next()); ) {
    const passed = receiver ? forClient(receiver, bytes) : forServer(bytes)
    if (passed) pieces.push(passed)
  }
  const sent = () => {
    lastMovement = performance.now()
    backend.sent(chunk.length)
  }
  if (pieces.length) receiver.send(Buffer.concat(pieces), sent)
  else sent()
  if (!serving) return
  if (!busy()) for (const bytes of receiver.notifications.splice(0)) receiver.send(bytes)
  if (outOfTransaction()) endTurn()
  else sendOn()
}

function forServer(bytes) {
  switch (typeOf(bytes)) {
    case 'D':
      ownQuery.rows.push(readRow(bytes))
      break
    case 'E':
      ownQuery.failure ??= readFields(bytes)
      break
    case 'A':
      notify(bytes)
      break
    case 'Z': {
      const { resolve, ...result } = ownQuery
      ownQuery = null
      transaction = String.fromCharCode(bytes[5])
      setImmediate(resolve, result) // what follows in this chunk comes first
    }
  }
  return null
}

// What the client gets of a message: usually the message.
function forClient(client, bytes) {
  switch (typeOf(bytes)) {
    case 'Z': {
      const hidden = hiddenUnits.delete(unitsDone++)
      client.timedOut = false
      clearTimeout(statementTimer)
      if (busy()) startTimer(client)
      transaction = String.fromCharCode(bytes[5])
      while (parsesSent.length && parsesSent[0].unit < unitsDone) parsesSent.shift()
      return hidden ? null : bytes
    }
    case '1':
      return parsesSent.shift()?.hidden ? null : bytes
    case 'A':
      notify(bytes)
      return null
    case 'C':
      noticeTag(client, readString(bytes, 5)[0])
      return bytes
    case 'E':
      if (hiddenUnits.has(unitsDone) && !client.synced) client.skipping = true
      if (client.timedOut && readFields(bytes).C === '57014') {
        return error('ERROR', '57014', 'canceling statement due to statement timeout')
      }
      return bytes
    case 'G':
      noticeCopyIn()
      return bytes
    case 'N':
      return bytes.includes(DEBUG_NOTICE) ? null : bytes
    default:
      return bytes
  }
}

function noticeCopyIn() {
  if (!extended) return
  copying = true
  if (unsynced) return
  unsynced = true // the Sync that went with the COPY is swallowed; one more follows the data
  unitsSent--
}

function noticeTag(client, tag) {
  if (!/^(SET|RESET|DISCARD)/.test(tag)) return
  client.changed = true
  if (tag !== 'SET') client.resets = true
}

// A notification goes to every client that listens: at once to an idle one, as a native server does, and to
// the owner at the end of its statement.
function notify(bytes) {
  const [channel] = readString(bytes, 9)
  for (const client of clients.values()) {
    if (!client.channels.has(channel)) continue
    const copy = Buffer.from(bytes)
    copy.writeInt32BE((owner ?? client).id, 5)
    if (client === owner && busy()) client.notifications.push(copy)
    else client.send(copy)
  }
}

// ---- whose turn it is ----

function enqueue(client) {
  if (!waiting.includes(client)) waiting.push(client)
  nextTurn()
}

async function nextTurn() {
  if (owner || ownQuery || !open) return
  if (checkpointDue) {
    checkpointDue = false
    await run('CHECKPOINT')
    nextTurn()
    return
  }
  const client = waiting.shift()
  if (!client) {
    if (stopping && !clients.size) shutDown()
    return
  }
  owner = client
  if (!client.gone || client.queue.length) {
    if (sessionOf !== client) await enterSession(client)
    serving = true
    lastMovement = performance.now()
    sendOn()
  } else {
    await forget(client)
    owner = null
    nextTurn()
  }
}

// Sends the owner's messages to the backend.
function sendOn() {
  const client = owner
  clearTimeout(sendOnTimer)
  while (backend.unreadBytes < MOST_UNREAD_BYTES) {
    const bytes = client.take()
    if (!bytes) break
    lastMovement = performance.now()
    forward(client, bytes)
    if ('QSF'.includes(typeOf(bytes))) break // its ReadyForQuery brings us back, or gives another the turn
  }
  if (!serving || owner !== client) return // what it sent was no message, and its turn is over
  if (client.queue.length && backend.unreadBytes >= MOST_UNREAD_BYTES) {
    sendOnTimer = setTimeout(() => {
      if (serving && owner === client) sendOn()
    }, 5)
  } else if (client.gone && !client.queue.length) {
    abandon()
  } else if (outOfTransaction()) {
    endTurn()
  }
}

// Brings the backend out of whatever its owner, which is gone, was doing.
function abandon() {
  if (busy() || copying) backend.send(COPY_FAIL) // ends a COPY, else is ignored
  copying = false
  if (unsynced) sendUnit(SYNC)
  else if (!busy() && transaction !== 'I') sendUnit(query('ROLLBACK'))
  else if (!busy()) endTurn()
}

function sendUnit(bytes) {
  unsynced = false
  unitsSent++
  backend.send(bytes)
}

async function endTurn() {
  const client = owner
  serving = false
  if (client.resets && !client.gone) await restoreStart(client)
  if (relisten) await listenAgain()
  if (client.gone && !client.queue.length) await forget(client)
  owner = null
  if (client.queue.length) enqueue(client)
  else nextTurn()
}

// Removes what a client that is gone leaves in the backend.
async function forget(client) {
  if (!clients.delete(client.id)) return
  waiting = waiting.filter((other) => other !== client)
  if (client.statementCount || client.statements.size) await run(doBlock(deallocateAll(client)))
  const others = [...clients.values()]
  if (client.temporary && !others.some((other) => other.temporary)) await run('DISCARD TEMP')
  if (client.channels.size) await listenAgain()
  if (sessionOf === client) {
    sessionOf = null
    if (client.changed) settingsInForce = ''
  }
}

// Makes the backend listen to exactly the channels of the clients.
async function listenAgain() {
  relisten = false
  const channels = new Set([...clients.values()].flatMap((client) => [...client.channels]))
  await run(['UNLISTEN *', ...[...channels].map((name) => `LISTEN ${sql.quoteIdentifier(name)}`)].join(';'))
}

// An owner that holds the backend but neither sends nor takes anything keeps everybody else waiting.
function watchOwner() {
  if (!serving || !waiting.some((client) => client !== owner)) return
  const idleSeconds = (performance.now() - lastMovement) / 1000
  if (idleSeconds < options.idleInTransactionSeconds || !backend.waitsForClient) return
  if (busy()) backend.interrupt()
  owner.fail('25P03', 'idle in transaction while other connections wait for the one embedded backend')
}

// ---- session settings ----

const startingSession = (client) => ({
  settings: new Map([...Object.entries(BASELINE), ...client.startSettings]),
  role: client.startRole,
  user: client.user,
})
const sessionKey = ({ settings, role, user }) => JSON.stringify([user, role, [...settings].sort()])

async function enterSession(client) {
  if (sessionOf) await readSession(sessionOf)
  await applySession(client)
}

async function readSession(client) {
  if (!client.changed) return
  client.changed = false
  settingsInForce = '' // what is in force is this client's doing
  const custom = [...customSettings].map(sql.quoteLiteral)
  const { rows, failure } = await run(`
    select lower(name), setting from pg_settings where source = 'session'
    union all
    select name, current_setting(name, true) from unnest(array[${custom}]::text[]) as custom (name)
    where current_setting(name, true) <> ''
    union all
    values ('=role', current_setting('role')), ('=user', session_user::text)`)
  if (failure) return
  const settings = new Map(rows)
  client.session = { settings, role: settings.get('=role'), user: settings.get('=user') }
  settings.delete('=role')
  settings.delete('=user')
}

async function applySession(client) {
  const session = client.session ?? startingSession(client)
  const key = sessionKey(session)
  sessionOf = client
  if (key === settingsInForce) return
  const values = [...session.settings].map(
    ([name, value]) => `set_config(${sql.quoteLiteral(name)}, ${sql.quoteLiteral(value)}, false)`,
  )
  // As the superuser; DEFAULT does nothing in a standalone backend.
  const statements = ['SET SESSION AUTHORIZATION postgres; RESET ROLE; RESET ALL', `SELECT ${values}`]
  const [user, role] = [session.user, session.role].map(sql.quoteIdentifier)
  if (session.user !== 'postgres') statements.push(`SET SESSION AUTHORIZATION ${user}`)
  if (session.role !== 'none') statements.push(`SET ROLE ${role}`)
  const { failure } = await run(statements.join(';'))
  settingsInForce = failure ? '' : key
  if (failure) client.fail(failure.C, failure.M)
}

// After a RESET, what the client has not set goes back to what its connection began with, not to the build's
// own settings.
async function restoreStart(client) {
  const start = startingSession(client)
  client.changed = true
  await readSession(client)
  const { session } = client
  if (!session) return
  for (const [name, value] of start.settings) {
    if (!session.settings.has(name)) session.settings.set(name, value)
  }
  if (client.resetsRole && session.role === 'none') session.role = start.role
  client.resets = client.resetsRole = false
  if (sessionKey(session) === sessionKey(start)) client.session = null
  await applySession(client)
}

// ---- from a client to the backend ----

const statementPrefix = (client) => `client${client.id}-`

function backendName(client, name) {
  const known = client.statements.get(name)
  if (known) return known
  const made = statementPrefix(client) + ++client.statementCount
  client.statements.set(name, made)
  return made
}

function forward(client, bytes) {
  const type = typeOf(bytes)
  if (client.skipping && type !== 'S') return
  if ('PBDECH'.includes(type)) {
    unsynced = true
    extended = true
  }
  switch (type) {
    case 'Q':
      return forwardQuery(client, bytes)
    case 'P':
      return forwardParse(client, bytes)
    case 'B':
      return forwardBind(client, bytes)
    case 'D':
    case 'C':
      return forwardDescribeOrClose(client, type, bytes)
    case 'E':
      noticeListens(client, client.listenOfPortal.get(readString(bytes, 5)[0]) ?? '')
      backend.send(bytes)
      return startTimer(client)
    case 'H':
      backend.send(bytes)
      // Parse, Describe, Flush (asyncpg's prepare) must not hold the backend: end it with a Sync of our own.
      if (!client.executed && transaction === 'I') {
        hiddenUnits.add(unitsSent)
        client.synced = false
        sendUnit(SYNC)
      }
      return
    case 'S':
      if (copying) return backend.send(bytes)
      client.executed = client.skipping = false
      client.synced = true
      return sendUnit(bytes)
    case 'F':
      return sendUnit(bytes)
    case 'c':
    case 'f':
      copying = false
      return backend.send(bytes)
    case 'd':
      return backend.send(bytes)
    default:
      client.fail('08P01', `invalid frontend message type ${bytes[0]}`)
  }
}

function forwardQuery(client, bytes) {
  const [text] = readString(bytes, 5)
  if (text === ASYNCPG_RESET && outOfTransaction() && isAsAtStart(client)) {
    client.send(ASYNCPG_RESET_DONE)
    return
  }
  noticeText(client, text)
  noticeListens(client, text)
  for (const name of sql.findPrepares(text)) client.statements.set(`=${name}`, name)
  const rewritten = rewrite(client, text)
  extended = client.executed = false
  client.unnamed = unnamedOf = null // a simple query drops it
  sendUnit(rewritten === text ? bytes : query(rewritten))
  startTimer(client)
}

const isAsAtStart = (client) => !client.changed && !client.session && !client.channels.size

function forwardParse(client, bytes) {
  const [name, afterName] = readString(bytes, 5)
  const [text, afterText] = readString(bytes, afterName)
  noticeText(client, text)
  client.listenOf.set(name, sql.findListens(text).length ? text : '')
  parsesSent.push({ unit: unitsSent, hidden: false })
  const rest = Buffer.concat([cstring(rewrite(client, text)), bytes.subarray(afterText)])
  const parse = (as) => message('P', cstring(as), rest)
  if (name === '') {
    client.unnamed = parse('')
    unnamedOf = client
    backend.send(client.unnamed)
  } else {
    backend.send(parse(backendName(client, name)))
  }
}

function forwardBind(client, bytes) {
  client.executed = true
  const [portal, afterPortal] = readString(bytes, 5)
  const [name, afterName] = readString(bytes, afterPortal)
  client.listenOfPortal.set(portal, client.listenOf.get(name))
  if (name === '') {
    bringUnnamed(client)
    backend.send(bytes)
  } else {
    const statement = client.statements.get(name) ?? name
    backend.send(message('B', cstring(portal), cstring(statement), bytes.subarray(afterName)))
  }
}

function forwardDescribeOrClose(client, type, bytes) {
  const kind = String.fromCharCode(bytes[5])
  const [name] = readString(bytes, 6)
  if (kind === 'S' && name !== '') {
    const statement = client.statements.get(name) ?? name
    if (type === 'C') client.statements.delete(name)
    backend.send(message(type, Buffer.from(kind), cstring(statement)))
    return
  }
  if (kind === 'S') {
    if (type === 'D') bringUnnamed(client)
    else client.unnamed = null
  }
  backend.send(bytes)
}

// Where the backend's unnamed statement is another client's, this client's is parsed again.
function bringUnnamed(client) {
  if (unnamedOf === client || !client.unnamed) return
  parsesSent.push({ unit: unitsSent, hidden: true })
  backend.send(client.unnamed)
  unnamedOf = client
}

function noticeText(client, text) {
  for (const name of sql.findCustomSettings(text)) customSettings.add(name)
  if (sql.mayHideSettings(text)) client.changed = true
  if (sql.resetsRole(text)) client.resetsRole = true
  if (sql.usesTemporaryTables(text)) client.temporary = true
}

function noticeListens(client, text) {
  for (const { listen, channel } of sql.findListens(text)) {
    if (listen) {
      client.channels.add(channel)
    } else {
      relisten = true // the other clients still listen
      if (channel === '*') client.channels.clear()
      else client.channels.delete(channel)
    }
  }
}

// Statements that would clear what other clients have in the shared session become ones that clear the client's;
// one becomes one, since clients count the answers.
function rewrite(client, text) {
  if (!/deallocate|discard/i.test(text)) return text
  const rewritten = sql.splitStatements(text).map((statement) => {
    const cleanup = sql.readCleanup(statement)
    if (!cleanup) return statement
    if (cleanup.name !== undefined) return deallocate(client, cleanup.name, statement)
    const ours = deallocateAll(client)
    client.statements.clear()
    if (cleanup.all) return doBlock(ours)
    client.changed = client.resets = client.resetsRole = true
    client.channels.clear()
    relisten = true
    return doBlock(`execute 'close all'; reset role; reset all; ${ours}`)
  })
  return rewritten.join(';')
}

const doBlock = (body) => `do $do$ declare v_name text; begin ${body} end $do$`

// PL/pgSQL that drops the client's prepared statements.
function deallocateAll(client) {
  const names = [...client.statements.values()].map(sql.quoteLiteral)
  return `for v_name in
      select name from pg_prepared_statements
      where name like '${statementPrefix(client)}%' or name = any(array[${names}]::text[])
    loop execute format('deallocate %I', v_name); end loop;`
}

function deallocate(client, name, statement) {
  const known = client.statements.get(name)
  if (!known) return statement
  client.statements.delete(name)
  return `DEALLOCATE ${sql.quoteIdentifier(known)}`
}

function stopListening(client) {
  client.channels.clear()
  relisten = true
}

// The build has no timers, so statement_timeout is kept here; a value set later counts from the next turn on.
function startTimer(client) {
  clearTimeout(statementTimer)
  const settings = client.session?.settings ?? client.startSettings
  const limit = milliseconds(settings.get('statement_timeout'))
  if (!limit) return
  statementTimer = setTimeout(() => {
    if (owner !== client || !serving) return
    client.timedOut = true
    backend.interrupt()
  }, limit)
}

function milliseconds(text = '') {
  const UNITS = { us: 0.001, ms: 1, s: 1000, min: 60_000, h: 3_600_000, d: 86_400_000 }
  const [, number, unit] = /^\s*(\d+(?:\.\d+)?)\s*(us|ms|s|min|h|d)?\s*$/.exec(text) ?? []
  return number === undefined ? 0 : Number(number) * UNITS[unit ?? 'ms']
}

// ---- connections ----

const server = {
  database: options.database,
  parameters: {},
  ready(client) {
    if (stopping) {
      client.fail('57P03', 'the embedded database is shutting down')
      return
    }
    clients.set(client.id, client)
    for (const name of client.startSettings.keys()) if (name.includes('.')) customSettings.add(name)
  },
  received(client) {
    if (owner === client && serving) sendOn()
    else enqueue(client)
  },
  gone(client) {
    if (owner === client && serving) sendOn()
    else enqueue(client)
  },
  cancel(id, secret) {
    const client = clients.get(id)
    if (client?.secret === secret) cancel(client)
  },
}

function cancel(client) {
  if (owner === client && serving && (busy() || unsynced)) {
    backend.interrupt()
    return
  }
  if (!client.queue.length) return
  // Not begun yet: what it waits to run, up to its next Sync or simple query, is dropped.
  let type
  do type = typeOf(client.take())
  while (client.queue.length && !'SQ'.includes(type))
  client.skipping = !'SQ'.includes(type)
  client.send(error('ERROR', '57014', 'canceling statement due to user request'))
  if (!client.skipping) client.send(readyForQuery('I'))
}

// ---- start and stop ----

const listeners = []

function listen(...where) {
  return new Promise((resolve) => {
    const listener = net.createServer((socket) => new Client(socket, server))
    listener.on('error', (failure) => {
      console.log(failure.message)
      process.exit(1)
    })
    listener.listen(...where, resolve)
    listeners.push(listener)
  })
}

async function start() {
  await run('RESET ALL')
  // Nothing is preloaded in this build. Without this, hypertables take no rows, and the community module is
  // missing.
  await run("LOAD 'timescaledb'")
  for (const name of REPORTED) {
    const { rows } = await run(`show ${name}`)
    if (rows.length) server.parameters[name] = rows[0][0]
  }
  server.parameters.TimeZone = BASELINE.timezone
  fs.rmSync(options.socket, { force: true }) // a crash leaves it
  await listen(options.socket)
  if (options.port) await listen(options.port, '127.0.0.1')
  setInterval(watchOwner, Math.min(1000, options.idleInTransactionSeconds * 250))
  setInterval(() => {
    checkpointDue = true // nothing else keeps the log from growing
    nextTurn()
  }, options.checkpointSeconds * 1000)
  open = true
  console.log('ready')
  nextTurn()
}

function stop() {
  if (stopping) return
  stopping = true
  for (const listener of listeners) listener.close()
  if (busy()) backend.interrupt()
  for (const client of clients.values()) {
    client.fail('57P01', 'the embedded database is shutting down')
  }
  setTimeout(() => process.exit(1), STOP_MILLISECONDS) // the log is on disk, the next start recovers
  nextTurn()
}

function shutDown() {
  open = false
  backend.close()
}

process.on('SIGTERM', stop)
process.stdin.on('end', stop) // the parent is gone, or wants this
process.stdin.resume()
for (const stream of [process.stdout, process.stderr]) stream.on('error', () => {}) // nobody reads it any more
