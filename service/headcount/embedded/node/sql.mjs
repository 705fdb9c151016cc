// What the server has to notice in the text of SQL statements, because all clients share one session.

export const quoteIdentifier = (name) => `"${name.replaceAll('"', '""')}"`
export const quoteLiteral = (text) => `'${text.replaceAll("'", "''")}'`

const NAME = String.raw`"(?:[^"]|"")+"|[^\s;"]+`

function unquote(name) {
  return name.startsWith('"') ? name.slice(1, -1).replaceAll('""', '"') : name.toLowerCase()
}

// The statements of a text, minding quotes, comments and dollar quotes.
export function splitStatements(sql) {
  const statements = []
  let start = 0
  let i = 0
  while (i < sql.length) {
    const rest = sql.length - i
    if (sql[i] === ';') {
      statements.push(sql.slice(start, i))
      start = ++i
    } else if (sql[i] === "'" || sql[i] === '"') {
      i = afterQuote(sql, i)
    } else if (sql.startsWith('--', i)) {
      const end = sql.indexOf('\n', i)
      i = end < 0 ? sql.length : end
    } else if (sql.startsWith('/*', i)) {
      i = afterComment(sql, i)
    } else if (sql[i] === '$') {
      const tag = /^\$[A-Za-z_]*\$/.exec(sql.slice(i, i + Math.min(rest, 70)))?.[0]
      const end = tag ? sql.indexOf(tag, i + tag.length) : i
      i = end < 0 ? sql.length : end + (tag?.length ?? 1)
    } else {
      i++
    }
  }
  if (sql.slice(start).trim()) statements.push(sql.slice(start))
  return statements
}

function afterQuote(sql, start) {
  const quote = sql[start]
  let i = start + 1
  while (i < sql.length) {
    if (sql[i] !== quote) i++
    else if (sql[i + 1] === quote) i += 2
    else break
  }
  return i + 1
}

function afterComment(sql, start) {
  let depth = 0
  let i = start
  do {
    if (sql.startsWith('/*', i)) {
      depth++
      i += 2
    } else if (sql.startsWith('*/', i)) {
      depth--
      i += 2
    } else {
      i++
    }
  } while (depth && i < sql.length)
  return i
}

// LISTEN and UNLISTEN: [{listen: true or false, channel: name or '*'}, ...]
export function findListens(sql) {
  if (!/listen/i.test(sql)) return []
  const found = []
  for (const statement of splitStatements(sql)) {
    const match = new RegExp(String.raw`^\s*(un)?listen\s+(${NAME})`, 'i').exec(statement)
    if (match) found.push({ listen: !match[1], channel: unquote(match[2]) })
  }
  return found
}

// Names of custom settings ("a.b"), which pg_settings does not list.
export function findCustomSettings(sql) {
  const pattern =
    /set_config\s*\(\s*'([a-z_]\w*\.[\w.]+)'|\bset\s+(?:session\s+|local\s+)?([a-z_]\w*\.[\w.]+)\s*(?:=|to\b)/gi
  return [...sql.matchAll(pattern)].map((match) => (match[1] ?? match[2]).toLowerCase())
}

// Whether it may change settings without saying so in its command tag.
export const mayHideSettings = (sql) => /\bset_config\s*\(|^\s*(call|do)\b/i.test(sql)
export const resetsRole = (sql) => /\breset\s+role\b/i.test(sql)
export const usesTemporaryTables = (sql) => /\btemp(orary)?\b/i.test(sql)

// Names of statements that SQL's own PREPARE makes.
export function findPrepares(sql) {
  const pattern = new RegExp(String.raw`(?:^|;)\s*prepare\s+(${NAME})`, 'gi')
  return [...sql.matchAll(pattern)].map((match) => unquote(match[1].replace(/\(.*/, '')))
}

// {name} for DEALLOCATE name, {all: true} for DEALLOCATE ALL, {discard: true} for DISCARD ALL, else null.
export function readCleanup(statement) {
  if (/^\s*discard\s+all\s*$/i.test(statement)) return { discard: true }
  const pattern = new RegExp(String.raw`^\s*deallocate\s+(?:prepare\s+)?(${NAME})\s*$`, 'i')
  const name = pattern.exec(statement)?.[1]
  if (name === undefined) return null
  return /^all$/i.test(name) ? { all: true } : { name: unquote(name) }
}
