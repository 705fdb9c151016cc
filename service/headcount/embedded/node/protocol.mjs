// The PostgreSQL wire protocol, version 3: what this server reads and writes of it.

const HIGHEST_LENGTH = 1 << 30

export const cstring = (text) => Buffer.from(`${text}\0`)

export function int32(number) {
  const bytes = Buffer.alloc(4)
  bytes.writeInt32BE(number)
  return bytes
}

export function message(type, ...parts) {
  const body = Buffer.concat(parts)
  return Buffer.concat([Buffer.from(type), int32(body.length + 4), body])
}

export const typeOf = (bytes) => String.fromCharCode(bytes[0])

export const query = (sql) => message('Q', cstring(sql))
export const SYNC = message('S')
export const COPY_FAIL = message('f', cstring('the client is gone'))

export const commandComplete = (tag) => message('C', cstring(tag))
export const readyForQuery = (status) => message('Z', Buffer.from(status))
export const parameterStatus = (name, value) => message('S', cstring(name), cstring(value))

export const error = (severity, code, text) =>
  message(
    'E',
    cstring(`S${severity}`),
    cstring(`V${severity}`),
    cstring(`C${code}`),
    cstring(`M${text}`),
    Buffer.from([0]),
  )

// The zero-terminated string at an offset, and where the next one begins.
export function readString(bytes, offset) {
  const end = bytes.indexOf(0, offset)
  return [bytes.toString('utf8', offset, end), end + 1]
}

// The fields of an ErrorResponse or NoticeResponse by their letter.
export function readFields(bytes) {
  const fields = {}
  let offset = 5
  while (bytes[offset]) {
    const name = String.fromCharCode(bytes[offset])
    ;[fields[name], offset] = readString(bytes, offset + 1)
  }
  return fields
}

// The values of a DataRow as text.
export function readRow(bytes) {
  const values = []
  let offset = 7
  for (let left = bytes.readInt16BE(5); left > 0; left--) {
    const length = bytes.readInt32BE(offset)
    offset += 4
    if (length < 0) {
      values.push(null)
    } else {
      values.push(bytes.toString('utf8', offset, offset + length))
      offset += length
    }
  }
  return values
}

// Cuts a stream of bytes into messages. A client's first messages have no type byte.
export class Framer {
  #chunks = []
  #size = 0
  #needed = 0

  constructor(typed) {
    this.typed = typed
    this.highestLength = HIGHEST_LENGTH
  }

  push(chunk) {
    this.#chunks.push(chunk)
    this.#size += chunk.length
  }

  // The next whole message, or null until more bytes are there.
  next() {
    if (!this.#size || this.#size < this.#needed) return null
    if (this.#chunks.length > 1) this.#chunks = [Buffer.concat(this.#chunks)]
    const bytes = this.#chunks[0]
    const start = this.typed ? 1 : 0
    const head = start + 4
    if (bytes.length < head) return this.#wait(head)
    const length = bytes.readInt32BE(start) + start
    if (length < head || length > this.highestLength) throw new Error('these bytes are no message')
    if (bytes.length < length) return this.#wait(length)
    this.#needed = 0
    this.#size -= length
    this.#chunks = this.#size ? [bytes.subarray(length)] : []
    return bytes.subarray(0, length)
  }

  #wait(needed) {
    this.#needed = needed
    return null
  }
}
