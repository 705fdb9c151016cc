// Makes WebAssembly modules import a shared memory where they were built to import a private one, so that
// another thread can reach the backend's variables while it runs. Only the memory's limits in the import
// section change: the flags become "has a maximum, shared", and the maximum is added.

export const HIGHEST_PAGES = 32768 // 2 GB, what the build can address

const IMPORT_SECTION = 2
const [FUNCTION, TABLE, MEMORY, GLOBAL] = [0, 1, 2, 3]

// An unsigned LEB128 number, and where the next byte is.
function readNumber(bytes, offset) {
  let number = 0
  let shift = 0
  for (let i = offset; ; i++, shift += 7) {
    number |= (bytes[i] & 127) << shift
    if (bytes[i] < 128) return [number >>> 0, i + 1]
  }
}

function writeNumber(number) {
  const bytes = []
  for (let left = number; ; left >>>= 7) {
    if (left < 128) return [...bytes, left]
    bytes.push((left & 127) | 128)
  }
}

const asBytes = (source) =>
  source instanceof ArrayBuffer
    ? new Uint8Array(source)
    : new Uint8Array(source.buffer, source.byteOffset, source.byteLength)

// Where the limits of the imported memory lie: {start, end, initial}, or null when none is imported.
function findMemory(bytes, sectionStart) {
  let [count, i] = readNumber(bytes, sectionStart)
  for (; count > 0; count--) {
    for (let names = 2; names > 0; names--) {
      const [length, start] = readNumber(bytes, i)
      i = start + length
    }
    const kind = bytes[i++]
    if (kind === FUNCTION) {
      i = readNumber(bytes, i)[1]
    } else if (kind === GLOBAL) {
      i += 2
    } else {
      if (kind === TABLE) i++ // the type of its elements
      const start = i
      const hasMaximum = bytes[start] & 1
      const [initial, afterInitial] = readNumber(bytes, start + 1)
      i = hasMaximum ? readNumber(bytes, afterInitial)[1] : afterInitial
      if (kind === MEMORY) return { start, end: i, initial }
    }
  }
  return null
}

function importSection(bytes) {
  for (let i = 8; i < bytes.length; ) {
    const [length, start] = readNumber(bytes, i + 1)
    if (bytes[i] === IMPORT_SECTION) return { header: i, start, end: start + length }
    i = start + length
  }
  return null
}

// {bytes, initial}: the module with a shared memory, and how many pages that has to have at first.
export function shareMemory(source) {
  const bytes = asBytes(source)
  const section = importSection(bytes)
  const memory = section && findMemory(bytes, section.start)
  if (!memory) return { bytes, initial: 0 }
  const limits = [3, ...writeNumber(memory.initial), ...writeNumber(HIGHEST_PAGES)]
  const body = Buffer.concat([
    bytes.subarray(section.start, memory.start),
    Buffer.from(limits),
    bytes.subarray(memory.end, section.end),
  ])
  const header = Buffer.from([IMPORT_SECTION, ...writeNumber(body.length)])
  return {
    bytes: Buffer.concat([bytes.subarray(0, section.header), header, body, bytes.subarray(section.end)]),
    initial: memory.initial,
  }
}
