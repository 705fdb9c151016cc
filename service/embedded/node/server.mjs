// PostgreSQL wire server in front of one WASM backend (see backend.mjs).
// usage: node server.mjs '{"dataDir":..., "socketDir":..., "port":...}'
import net from 'node:net'
import fs from 'node:fs'
import crypto from 'node:crypto'
import { Worker } from 'node:worker_threads'

const options = JSON.parse(process.argv[2])
const cfg = { host: '127.0.0.1', customSettings: [], passwords: null, settings: {}, debug: false, stdin: true, ...options,
  idleInTransactionMs: options.idleInTransactionSeconds * 1000, checkpointMs: options.checkpointSeconds * 1000 }
const baseline = { enable_seqscan: 'on', client_min_messages: 'notice', search_path: '"$user", public', timezone: 'UTC', allow_system_table_mods: 'off', ...cfg.settings }

// ---------- messages ----------
const cstr = (s) => Buffer.from(s + '\0')
const msg = (t, ...parts) => {
  const body = Buffer.concat(parts), h = Buffer.alloc(5)
  h.write(t, 0, 'latin1'); h.writeInt32BE(body.length + 4, 1)
  return Buffer.concat([h, body])
}
const i32 = (n) => { const b = Buffer.alloc(4); b.writeInt32BE(n); return b }
const Q = (sql) => msg('Q', cstr(sql))
const SYNC = msg('S'), ROLLBACK = Q('ROLLBACK')
const rfq = (st) => msg('Z', Buffer.from(st))
const errmsg = (sev, code, text) => msg('E', cstr('S' + sev), cstr('V' + sev), cstr('C' + code), cstr('M' + text), Buffer.from([0]))
const ident = (s) => '"' + s.replace(/"/g, '""') + '"'
const lit = (s) => "'" + s.replace(/'/g, "''") + "'"
const zend = (b, o) => b.indexOf(0, o)
const T = (c) => c.charCodeAt(0)
const P = T('P'), B = T('B'), D = T('D'), E_ = T('E'), C = T('C'), H = T('H'), S = T('S'), F = T('F'), QQ = T('Q'), X = T('X'),
  d_ = T('d'), c_ = T('c'), f_ = T('f'), Z = T('Z'), A = T('A'), N_ = T('N'), ONE = T('1'), p_ = T('p')

// ---------- backend link ----------
const ctlBuf = new SharedArrayBuffer(16), ctl = new Int32Array(ctlBuf)
const worker = new Worker(new URL('./backend.mjs', import.meta.url), { workerData: { ...cfg, ctlBuf }, resourceLimits: { stackSizeMb: 64 } })
const log = cfg.debug ? (...a) => console.error(performance.now().toFixed(1), ...a) : () => {}
const toBackend = (b) => { log('>', String.fromCharCode(b[0]), b.length); // the copy detaches from the socket's slab
  const u = new Uint8Array(b.length); u.set(b)
  worker.postMessage(u, [u.buffer])
  Atomics.add(ctl, 0, 1); Atomics.notify(ctl, 0)
}
const control = (o) => { worker.postMessage(o); Atomics.add(ctl, 0, 1); Atomics.notify(ctl, 0) }
const landed = (n) => { Atomics.sub(ctl, 1, n); Atomics.notify(ctl, 1) }

// ---------- state of the one backend ----------
const clients = new Map()
let nextId = 1
let owner = null          // client that holds the backend
let phase = 'idle'        // idle | attaching | running | releasing
let applied = null        // client whose session settings are in force
let unnamedOf = null      // client whose unnamed statement the backend has
let expectZ = 0, unsynced = false, tx = 'I', internal = null
let order = []            // clients with work, round robin
let relisten = false
let params = {}           // ParameterStatus of the backend
let sentZ = 0, gotZ = 0
let parses = []           // ParseComplete answers to come: {seq, hide}
let hideZ = new Set()     // ReadyForQuery answers to our own Sync
const customGucs = new Set(cfg.customSettings) // names of custom settings (pg_settings does not list them)
const stats = { units: 0, switches: 0, captures: 0, applies: 0 }

// Runs SQL for ourselves; resolves with {rows, error, tags}. Only when nobody else is executing.
function runInternal(sql, messages) {
  return new Promise((res) => {
    internal = { rows: [], error: null, res }
    if (messages) { messages.forEach(toBackend); toBackend(SYNC); return }
    unnamedOf = null
    toBackend(Q(sql))
  })
}
let acc = null
worker.on('message', (m) => {
  if (!(m instanceof Uint8Array)) return onControl(m)
  let buf = Buffer.from(m.buffer, m.byteOffset, m.length)
  const n0 = m.length
  if (acc) { buf = Buffer.concat([acc, buf]); acc = null }
  let o = 0, from = 0
  const to = internal ? null : owner
  const parts = []
  while (o + 5 <= buf.length) {
    const t = buf[o], len = buf.readInt32BE(o + 1) + 1
    if (o + len > buf.length) break
    let drop = internal !== null
    log('<', String.fromCharCode(t), len, internal ? 'internal' : to?.id)
    if (internal) {
      if (t === D) internal.rows.push(readRow(buf, o))
      else if (t === E_) internal.error ??= readError(buf, o)
      else if (t === S) readParam(buf, o)
      else if (t === A) dispatch(buf.subarray(o, o + len))
      else if (t === Z) { const i = internal; internal = null; tx = String.fromCharCode(buf[o + 5]); setImmediate(i.res, i) }
    } else if (t === Z) {
      if (hideZ.delete(gotZ)) drop = true
      gotZ++; expectZ--; clearTimeout(statementTimer)
      tx = String.fromCharCode(buf[o + 5])
      while (parses.length && parses[0].seq < gotZ) parses.shift()
    } else if (t === A) { dispatch(buf.subarray(o, o + len)); drop = true }
    else if (t === N_ && buf.includes('M# 1743: aborting transaction', o) && buf.indexOf('M# 1743: aborting transaction', o) < o + len) drop = true // PGlite's debug output
    else if (t === C) { onTag(buf.toString('latin1', o + 5, o + len - 1)) }
    else if (t === E_) { if (hideZ.has(gotZ) && !to.synced) to.skip = true }
    else if (t === ONE) drop = parses.shift()?.hide ?? false
    if (drop) { if (from < o) parts.push(buf.subarray(from, o)); from = o + len }
    o += len
  }
  if (from < o) parts.push(buf.subarray(from, o))
  if (o < buf.length) acc = Buffer.from(buf.subarray(o))
  const all = parts.length === 1 ? parts[0] : Buffer.concat(parts)
  if (to && all.length && !to.dead) to.sock.write(all, () => landed(n0))
  else landed(n0)
  if (phase === 'running') maybeRelease()
})
const readRow = (b, o) => {
  const n = b.readInt16BE(o + 5), r = []
  let q = o + 7
  for (let i = 0; i < n; i++) { const l = b.readInt32BE(q); q += 4; if (l < 0) r.push(null); else { r.push(b.toString('utf8', q, q + l)); q += l } }
  return r
}
const readError = (b, o) => {
  const e = {}; let q = o + 5
  while (b[q]) { const z = zend(b, q + 1); e[String.fromCharCode(b[q])] = b.toString('utf8', q + 1, z); q = z + 1 }
  return e
}
const readParam = (b, o) => { const z = zend(b, o + 5); params[b.toString('utf8', o + 5, z)] = b.toString('utf8', z + 1, zend(b, z + 1)) }
function dispatch(m) { // NotificationResponse: to every client that listens on the channel
  const z = zend(m, 9), ch = m.toString('utf8', 9, z)
  for (const c of clients.values()) if (c.listens.has(ch) && !c.dead) {
    const copy = Buffer.from(m); copy.writeInt32BE((owner ?? c).pid, 5)
    // a real server notifies an idle session at once, a busy one before its next ReadyForQuery
    if (c === owner && expectZ > 0) c.notes.push(copy); else c.sock.write(copy)
  }
}
function onTag(tag) {
  if (/^(SET|RESET|DISCARD)/.test(tag)) { owner.dirty = true; if (tag !== 'SET') owner.reset = true }
}
function onControl(m) {
  if (m.ready) { if (m.memory) interrupt = () => { // InterruptPending, QueryCancelPending: neighbours in the backend's globals
    const v = new Int32Array(m.memory.buffer, m.interrupt, 2); Atomics.store(v, 1, 1); Atomics.store(v, 0, 1) }
    return start() }
  if (m.mem) { memWaiters.splice(0).forEach((f) => f(m)); return }
  if (m.closed) { process.exit(0) }
  if (m.error) console.error(m.error)
}
let interrupt = null
const memWaiters = []
worker.on('error', (e) => { console.error('backend crashed:', e); process.exit(70) })

// ---------- scheduling ----------
function enqueue(c) { if (!order.includes(c)) order.push(c); pump() }
function maybeRelease() {
  const c = owner
  if (expectZ === 0) for (const n of c.notes.splice(0)) if (!c.dead) c.sock.write(n)
  if (expectZ === 0 && !unsynced && tx === 'I') {
    stats.units++
    phase = 'releasing'
    clearTimeout(c.idleTimer)
    if (c.queue.length) enqueue(c)
    if (!c.reset && !relisten && !c.dead) return released()
    afterUnit(c).then(released)
  } else pumpOwner()
}
function released() { owner = null; phase = 'idle'; pump() }
async function afterUnit(c) {
  if (c.reset) { c.reset = false; await afterReset(c) }
  if (relisten) {
    relisten = false
    const all = new Set([...clients.values()].flatMap((x) => [...x.listens]))
    if (all.size) await runInternal([...all].map((x) => `LISTEN ${ident(x)}`).join(';'))
  }
  if (c.dead) await bury(c)
}
function pump() {
  if (owner || !started) return
  const c = order.shift()
  if (!c) return
  owner = c; phase = 'attaching'
  if (c.dead && !c.queue.length) { bury(c).then(released); return }
  const go = () => { phase = 'running'; pumpOwner() }
  if (applied === c) go(); else attach(c).then(go)
}
function pumpOwner() {
  const c = owner
  clearTimeout(c.idleTimer)
  let m
  while ((m = c.queue.shift())) {
    forward(c, m)
    if (m[0] === S || m[0] === QQ || m[0] === F) break // one unit at a time; its ReadyForQuery brings us back
  }
  if (c.dead && !c.queue.length) return abandon(c)
  if (expectZ === 0 && !unsynced && tx === 'I') return maybeRelease()
  if (cfg.idleInTransactionMs && expectZ === 0) c.idleTimer = setTimeout(() => {
    if (owner === c && phase === 'running' && expectZ === 0 && order.some((x) => x !== c)) {
      c.sock.write(errmsg('FATAL', '25P03', 'idle in transaction while other connections wait for the one embedded backend'))
      c.sock.end(); kill(c)
    }
  }, cfg.idleInTransactionMs)
}
// A client vanished while it held the backend.
function abandon(c) {
  if (expectZ > 0) toBackend(msg('f', cstr('client disconnected'))) // ends a COPY, ignored otherwise
  if (unsynced) { unsynced = c.ran = c.skip = false; expectZ++; sentZ++; toBackend(SYNC); return }
  if (expectZ > 0) return
  if (tx !== 'I') { expectZ++; sentZ++; unnamedOf = null; toBackend(ROLLBACK); return }
  maybeRelease()
}
async function bury(c) {
  if (c.buried) return
  c.buried = true
  clients.delete(c.id)
  order = order.filter((x) => x !== c)
  if (unnamedOf === c) unnamedOf = null
  const names = [...c.stmts.values()]
  if (names.length) await runInternal(null, names.map((n) => msg('C', Buffer.from('S'), cstr(n)))) // Close never fails
  const others = [...clients.values()]
  if (c.temp && !others.some((x) => x.temp)) await runInternal('DISCARD TEMP')
  if (c.advisory && !others.some((x) => x.advisory)) await runInternal('SELECT pg_advisory_unlock_all()')
  const gone = [...c.listens].filter((ch) => ![...clients.values()].some((x) => x.listens.has(ch)))
  if (gone.length) await runInternal(gone.map((n) => `UNLISTEN ${ident(n)}`).join(';'))
  if (applied === c) { if (c.dirty) inForce = ''; applied = null } // the next client's attach resets
}

// ---------- session settings ----------
async function attach(c) {
  if (applied === c) return
  stats.switches++
  if (applied) await saveSettings(applied)
  await applySettings(c, false)
}
async function saveSettings(c) {
  if (!c.dirty) return
  c.dirty = false
  stats.captures++
  const r = await runInternal(`select name, setting from pg_settings where source = 'session'
    union all select '=role', current_setting('role') union all select '=auth', session_user
    union all select n, current_setting(n, true) from unnest(array[${[...customGucs].map(lit)}]::text[]) n where current_setting(n, true) <> ''`)
  if (!r.error) c.guc = new Map(r.rows)
  inForce = '' // what is in force is this client's, not what was last applied
}
function learnGucs(sql) {
  for (const m of sql.matchAll(/set_config\s*\(\s*'([a-z_]\w*\.[\w.]+)'|\bset\s+(?:session\s+)?([a-z_]\w*\.[\w.]+)\s*(?:=|to\b)/gi)) customGucs.add((m[1] ?? m[2]).toLowerCase())
}
const defaults = (c) => [...Object.entries(baseline).filter(([k, v]) => v !== null && !c.startGuc.has(k.toLowerCase())), ...c.startGuc]
let inForce = ''
async function applySettings(c, force) {
  const g = c.guc ?? new Map(defaults(c))
  const auth = g.get('=auth') ?? c.user, role = g.get('=role') ?? 'none'
  const set = [...g].filter(([k]) => k[0] !== '=').sort()
  const k = JSON.stringify([auth, role, set])
  applied = c
  if (!force && k === inForce) return
  stats.applies++
  const sql = ['SET SESSION AUTHORIZATION postgres; RESET ROLE; RESET ALL'] // DEFAULT does nothing in a standalone backend
  if (set.length) sql.push('SELECT ' + set.map(([n, v]) => `set_config(${lit(n)}, ${lit(v)}, false)`))
  if (auth !== 'postgres') sql.push(`SET SESSION AUTHORIZATION ${ident(auth)}`)
  if (role !== 'none') sql.push(`SET ROLE ${ident(role)}`)
  const r = await runInternal(sql.join(';'))
  inForce = r.error ? '' : k
  if (r.error && !c.dead) { c.sock.write(errmsg('FATAL', r.error.C, r.error.M)); c.sock.end(); kill(c) }
}
// After RESET: what the client did not set itself goes back to its connection's defaults.
async function afterReset(c) {
  c.dirty = true; await saveSettings(c)
  for (const [k, v] of defaults(c)) if (![...c.guc.keys()].some((x) => x.toLowerCase() === k.toLowerCase())) c.guc.set(k, v)
  await applySettings(c, true)
}

// ---------- client to backend ----------
function stmtName(c, n) { let v = c.stmts.get(n); if (!v) { v = `c${c.id}_${++c.stmtNo}`; c.stmts.set(n, v) } return v }
function unnamed(c) { // the backend's unnamed statement is another client's: parse ours again
  if (unnamedOf === c || !c.unnamed) return
  parses.push({ seq: sentZ, hide: true }); toBackend(c.unnamed); unnamedOf = c
}
const ms = (v) => { const m = /^\s*(\d+(?:\.\d+)?)\s*(us|ms|s|min|h)?\s*$/.exec(v ?? ''); return m ? m[1] * { us: 0.001, ms: 1, s: 1000, min: 60000, h: 3600000 }[m[2] ?? 'ms'] : 0 }
let statementTimer = null
function armTimeout(c) { // no SIGALRM in WASM: the statement_timeout that the session started with, or had at its last switch
  clearTimeout(statementTimer); statementTimer = null
  const t = ms(c.guc?.get('statement_timeout') ?? c.startGuc.get('statement_timeout'))
  if (t > 0) statementTimer = setTimeout(() => { if (owner === c && phase === 'running') interrupt?.() }, t)
}
function forward(c, m) {
  const t = m[0]
  if (c.skip && t !== S && t !== X) return // after an error, up to the client's Sync
  switch (t) {
    case QQ: {
      const sql = m.toString('utf8', 5, m.length - 1)
      if (sql === ASYNCPG_RESET && !c.dirty && !c.guc && !c.listens.size && tx === 'I') { // nothing to reset
        c.sock.write(RESET_DONE); return
      }
      noteListen(c, sql); learnGucs(sql); noteLeftovers(c, sql)
      for (const x of sql.matchAll(/(?:^|;)\s*prepare\s+("(?:[^"]|"")+"|\w+)/gi)) c.stmts.set(' ' + x[1], x[1][0] === '"' ? x[1].slice(1, -1) : x[1].toLowerCase()) // pg_dump's
      expectZ++; sentZ++; unsynced = c.ran = false; unnamedOf = null; c.unnamed = null
      const r = rewrite(c, sql)
      toBackend(r === sql ? m : Q(r)); armTimeout(c); return
    }
    case P: {
      unsynced = true
      const z = zend(m, 5), n = m.toString('utf8', 5, z)
      const sql = m.toString('utf8', z + 1, zend(m, z + 1))
      c.listenStmt.set(n, /^\s*(un)?listen\b/i.test(sql) ? sql : null)
      parses.push({ seq: sentZ, hide: false }); learnGucs(sql); noteLeftovers(c, sql)
      if (n === '') { c.unnamed = Buffer.from(m); unnamedOf = c; toBackend(m); return }
      toBackend(msg('P', cstr(stmtName(c, n)), m.subarray(z + 1))); return
    }
    case B: {
      unsynced = true; c.ran = true
      const z = zend(m, 5), z2 = zend(m, z + 1), n = m.toString('utf8', z + 1, z2)
      c.listenPortal.set(m.toString('utf8', 5, z), c.listenStmt.get(n))
      if (n === '') { unnamed(c); toBackend(m); return }
      toBackend(msg('B', m.subarray(5, z + 1), cstr(c.stmts.get(n) ?? n), m.subarray(z2 + 1))); return
    }
    case D: case C: {
      unsynced = true
      const n = m.toString('utf8', 6, m.length - 1)
      if (m[5] === S) {
        if (n === '') { if (t === D) unnamed(c); else c.unnamed = null; toBackend(m); return }
        const v = c.stmts.get(n) ?? n
        if (t === C) c.stmts.delete(n)
        toBackend(msg(String.fromCharCode(t), Buffer.from('S'), cstr(v))); return
      }
      toBackend(m); return
    }
    case E_: {
      unsynced = true
      const l = c.listenPortal.get(m.toString('utf8', 5, zend(m, 5)))
      if (l) noteListen(c, l)
      toBackend(m); armTimeout(c); return
    }
    case H:
      unsynced = true; toBackend(m)
      // Parse, Describe, Flush (asyncpg's prepare) must not hold the backend: end it with a Sync of our own
      if (!c.ran && tx === 'I') { hideZ.add(sentZ); c.synced = false; expectZ++; sentZ++; unsynced = false; toBackend(SYNC) }
      return
    case S: case F: expectZ++; sentZ++; unsynced = false; c.ran = c.skip = false; c.synced = true; toBackend(m); return
    case d_: case c_: case f_: toBackend(m); return // the worker drops them outside of COPY (clients need not wait for 'G')
    default: c.sock.write(errmsg('FATAL', '08P01', `invalid frontend message type ${t}`)); c.sock.end(); kill(c)
  }
}
const ASYNCPG_RESET = 'SELECT pg_advisory_unlock_all();\nCLOSE ALL;\nUNLISTEN *;\nRESET ALL;'
const RESET_DONE = Buffer.concat([...['SELECT 1', 'CLOSE CURSOR ALL', 'UNLISTEN', 'RESET'].map((x) => msg('C', cstr(x))), rfq('I')])
function noteListen(c, sql) {
  if (!/listen/i.test(sql)) return
  for (const s of split(sql)) {
    const m = /^\s*(un)?listen\s+(\*|"(?:[^"]|"")+"|[^\s;]+)/i.exec(s)
    if (!m) continue
    const ch = m[2][0] === '"' ? m[2].slice(1, -1).replace(/""/g, '"') : m[2].toLowerCase()
    if (!m[1]) c.listens.add(ch)
    else { relisten = true; if (ch === '*') c.listens.clear(); else c.listens.delete(ch) }
  }
}
// Temporary tables and session advisory locks belong to the one backend: they go when no live client uses such.
function noteLeftovers(c, sql) {
  if (/\btemp(orary)?\b/i.test(sql)) c.temp = true
  if (/pg_(try_)?advisory_lock/i.test(sql)) c.advisory = true
}
// Statements that would touch other clients' state in the shared session.
function rewrite(c, sql) {
  if (!/deallocate|discard/i.test(sql)) return sql
  return split(sql).map((s) => {
    const m = /^\s*deallocate\s+(?:prepare\s+)?("(?:[^"]|"")+"|\S+?)\s*$/i.exec(s)
    const own = () => { const l = [...c.stmts.values()].map((n) => `DEALLOCATE ${ident(n)}`); c.stmts.clear(); return l }
    if (m && /^all$/i.test(m[1])) return own().join(';') || 'SELECT 1 WHERE false'
    if (m) { const n = m[1].replace(/^"|"$/g, ''), v = c.stmts.get(n); if (v) { c.stmts.delete(n); return `DEALLOCATE ${ident(v)}` } return s }
    if (/^\s*discard\s+all\s*$/i.test(s)) { c.listens.clear(); c.guc = new Map(); relisten = true; return ['CLOSE ALL', 'RESET ALL', ...own(), 'DISCARD TEMP'].join(';') }
    return s
  }).join(';')
}
function split(sql) { // top-level statements, minding quotes, comments and dollar quotes
  const out = []; let s = 0, i = 0
  const n = sql.length
  while (i < n) {
    const ch = sql[i]
    if (ch === "'" || ch === '"') { i++; while (i < n && (sql[i] !== ch || sql[i + 1] === ch)) i += sql[i] === ch ? 2 : 1; i++ }
    else if (ch === '-' && sql[i + 1] === '-') { while (i < n && sql[i] !== '\n') i++ }
    else if (ch === '/' && sql[i + 1] === '*') { let dpt = 1; i += 2; while (i < n && dpt) { if (sql.startsWith('/*', i)) { dpt++; i += 2 } else if (sql.startsWith('*/', i)) { dpt--; i += 2 } else i++ } }
    else if (ch === '$') { const m = /^\$[A-Za-z_]*\$/.exec(sql.slice(i, i + 70)); if (m) { const e = sql.indexOf(m[0], i + m[0].length); i = e < 0 ? n : e + m[0].length } else i++ }
    else if (ch === ';') { out.push(sql.slice(s, i)); s = ++i }
    else i++
  }
  if (sql.slice(s).trim()) out.push(sql.slice(s))
  return out
}

// ---------- connections ----------
function kill(c) { if (c.dead) return; c.dead = true; clearTimeout(c.idleTimer); if (owner === c && phase === 'running') pumpOwner(); else enqueue(c) }
function onConnection(sock, trusted) {
  sock.setNoDelay(true)
  const c = {
    id: nextId++, sock, trusted, queue: [], stmts: new Map(), stmtNo: 0, listens: new Set(), notes: [], guc: null, startGuc: new Map(),
    listenStmt: new Map(), listenPortal: new Map(), unnamed: null, ran: false, skip: false, synced: true, temp: false, advisory: false, dirty: false, reset: false, dead: false, user: 'postgres',
    pid: 0, secret: 0, phase: 'startup',
  }
  let acc = [], have = 0, need = 4
  sock.on('data', (chunk) => {
    acc.push(chunk); have += chunk.length
    if (have < need) return
    let buf = acc.length === 1 ? acc[0] : Buffer.concat(acc), o = 0
    for (;;) {
      const head = c.phase === 'startup' ? 4 : 5
      if (buf.length - o < head) { need = head; break }
      const len = c.phase === 'startup' ? buf.readInt32BE(o) : buf.readInt32BE(o + 1) + 1
      if (len < head || len > 1 << 30) { sock.destroy(); return }
      if (buf.length - o < len) { need = len; break }
      const m = buf.subarray(o, o + len); o += len
      try { onMessage(c, m) } catch (e) { console.error(e); sock.destroy(); return }
    }
    buf = buf.subarray(o); acc = buf.length ? [buf] : []; have = buf.length
  })
  sock.on('error', () => {})
  sock.on('close', () => { if (c.phase === 'ready') kill(c) })
}
function onMessage(c, m) {
  if (c.phase === 'startup') return onStartup(c, m)
  if (c.phase === 'auth') { if (m[0] !== p_) { c.sock.destroy(); return } return onAuth(c, m) }
  if (m[0] === X) { c.sock.end(); kill(c); return }
  log('client', c.id, String.fromCharCode(m[0]), m.length, phase, owner?.id)
  c.queue.push(m)
  if (owner === c && phase === 'running') pumpOwner(); else enqueue(c)
}
function onStartup(c, m) {
  const code = m.readInt32BE(4)
  if (code === 80877103 || code === 80877104) { c.sock.write('N'); return }
  if (code === 80877102) { cancelRequest(m.readInt32BE(8), m.readInt32BE(12)); c.sock.end(); return }
  if (code >> 16 !== 3) { c.sock.end(errmsg('FATAL', '0A000', 'unsupported frontend protocol')); return }
  const kv = {}; let o = 8
  while (m[o]) { const z = zend(m, o), z2 = zend(m, z + 1); kv[m.toString('utf8', o, z)] = m.toString('utf8', z + 1, z2); o = z2 + 1 }
  c.user = kv.user ?? 'postgres'
  const db = kv.database ?? c.user
  if (db !== cfg.database) { c.sock.end(errmsg('FATAL', '3D000', `database "${db}" does not exist`)); return }
  for (const [k, v] of Object.entries(kv)) if (!['user', 'database', 'options', 'replication'].includes(k) && !k.startsWith('_pq_')) c.startGuc.set(k === 'client_encoding' || k === 'application_name' ? k : k.toLowerCase(), v)
  for (const x of (kv.options ?? '').matchAll(/(?:-c\s*|--)([\w.]+)=((?:\\.|\S)*)/g)) c.startGuc.set(x[1], x[2].replace(/\\(.)/g, '$1'))
  if (code & 0xffff) c.sock.write(msg('v', i32(0), i32(0))) // offer 3.0
  if (c.trusted || !cfg.passwords) return welcome(c)
  c.phase = 'auth'; c.scram = {}
  c.sock.write(msg('R', i32(10), cstr('SCRAM-SHA-256'), Buffer.from([0])))
}
const hmac = (k, s) => crypto.createHmac('sha256', k).update(s).digest()
function onAuth(c, m) { // SCRAM-SHA-256, without channel binding
  const fail = () => { c.sock.end(errmsg('FATAL', '28P01', `password authentication failed for user "${c.user}"`)) }
  const s = c.scram
  if (!s.first) {
    const z = zend(m, 5), first = m.toString('utf8', z + 5)
    const mm = /^([ny],.*?,)(.*r=([^,]+).*)$/.exec(first)
    if (!mm) return fail()
    s.gs2 = mm[1]; s.first = mm[2]; s.nonce = mm[3] + crypto.randomBytes(18).toString('base64')
    s.salt = crypto.randomBytes(16); s.iter = 4096
    s.server = `r=${s.nonce},s=${s.salt.toString('base64')},i=${s.iter}`
    c.sock.write(msg('R', i32(11), Buffer.from(s.server))); return
  }
  const fin = m.toString('utf8', 5), mm = /^(c=([^,]+),r=([^,]+)),p=(.+)$/.exec(fin), pw = cfg.passwords[c.user]
  if (!mm || mm[3] !== s.nonce || Buffer.from(mm[2], 'base64').toString() !== s.gs2 || pw === undefined) return fail()
  const salted = crypto.pbkdf2Sync(pw, s.salt, s.iter, 32, 'sha256'), ck = hmac(salted, 'Client Key')
  const stored = crypto.createHash('sha256').update(ck).digest(), am = `${s.first},${s.server},${mm[1]}`
  const sig = hmac(stored, am), proof = Buffer.from(mm[4], 'base64')
  const k = Buffer.from(sig.map((x, i) => x ^ proof[i]))
  if (proof.length !== 32 || !crypto.timingSafeEqual(crypto.createHash('sha256').update(k).digest(), stored)) return fail()
  c.sock.write(msg('R', i32(12), Buffer.from('v=' + hmac(hmac(salted, 'Server Key'), am).toString('base64'))))
  welcome(c)
}
function welcome(c) {
  c.phase = 'ready'; c.pid = 1000 + c.id; c.secret = crypto.randomInt(2 ** 31 - 1)
  clients.set(c.id, c)
  const ps = { ...params, session_authorization: c.user, is_superuser: c.user === 'postgres' ? 'on' : 'off' }
  for (const [k, v] of Object.entries(baseline)) if (k === 'timezone' && v) ps.TimeZone = v
  for (const [k, v] of c.startGuc) { const kk = Object.keys(ps).find((x) => x.toLowerCase() === k.toLowerCase()); if (kk) ps[kk] = v }
  if (/^utf-?8$/i.test(ps.client_encoding ?? '')) ps.client_encoding = 'UTF8'
  c.sock.write(Buffer.concat([msg('R', i32(0)), ...Object.entries(ps).map(([k, v]) => msg('S', cstr(k), cstr(v))), msg('K', i32(c.pid), i32(c.secret)), rfq('I')]))
}
function cancelRequest(pid, secret) {
  const c = [...clients.values()].find((x) => x.pid === pid && x.secret === secret)
  if (!c) return
  if (c === owner && phase === 'running' && (expectZ > 0 || unsynced)) { interrupt?.(); return }
  if (!c.queue.length) return
  // queued, not started: drop up to and including its next Sync or Query and say so
  let t
  while (c.queue.length) { t = c.queue.shift()[0]; if (t === S || t === QQ) break }
  c.skip = t !== S && t !== QQ
  c.sock.write(errmsg('ERROR', '57014', 'canceling statement due to user request'))
  if (!c.skip) c.sock.write(rfq('I'))
}

// ---------- start and stop ----------
let started = false
async function start() {
  await runInternal('RESET ALL')
  const l = await runInternal("select 1 from pg_extension where extname = 'timescaledb'")
  if (l.rows.length) await runInternal("LOAD 'timescaledb'") // without it: no hooks, no TSL module
  for (const n of ['server_version', 'server_encoding', 'client_encoding', 'DateStyle', 'TimeZone', 'integer_datetimes', 'standard_conforming_strings', 'IntervalStyle', 'application_name', 'in_hot_standby', 'default_transaction_read_only', 'scram_iterations']) {
    const r = await runInternal(`show ${n}`); if (!r.error) params[n] = r.rows[0][0]
  }
  started = true
  const tcp = net.createServer((s) => onConnection(s, false))
  const listening = []
  const listen = (srv, ...a) => listening.push(new Promise((ok) => srv.listen(...a, ok)))
  if (cfg.port) listen(tcp, cfg.port, cfg.host)
  fs.rmSync(cfg.socket, { force: true })
  listen(net.createServer((s) => onConnection(s, true)), cfg.socket)
  if (cfg.checkpointMs) setInterval(() => {
    if (owner || internal) return
    owner = { queue: [], notes: [] }; phase = 'attaching'
    runInternal('CHECKPOINT').then(released)
  }, cfg.checkpointMs)
  await Promise.all(listening)
  console.log('ready')
}
const stop = () => { started = false; const t = () => (owner && expectZ > 0 ? setTimeout(t, 10) : control({ close: true })); t(); setTimeout(() => process.exit(1), 10000).unref() }
process.on('SIGTERM', stop); process.on('SIGINT', stop)
process.on('SIGUSR2', () => { memWaiters.push((m) => console.log(JSON.stringify({ ...m, main: process.memoryUsage(), stats, clients: clients.size, phase, internal: !!internal, unsynced, dead: owner?.dead, q: owner?.queue.length, owner: owner?.id, order: order.map((x) => x.id), tx, expectZ }))); control({ mem: 1 }) })
if (cfg.stdin) { process.stdin.resume(); process.stdin.on('end', stop) }
