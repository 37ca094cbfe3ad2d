// Encodes events in Avro's single-object encoding: a marker, the schema's fingerprint, the body.

import { readFileSync } from 'node:fs'
import avro from 'avsc'

const MARKER = Buffer.from([0xc3, 0x01])
const EMPTY = 0xc15d213aa4d7a795n
const VALUE_BYTES_MAX = 1 << 20

/** Return a function that encodes events of a schema file. */
export function encoder(path) {
  const schema = JSON.parse(readFileSync(path, 'utf8'))
  const type = avro.Type.forSchema(schema, { wrapUnions: true })
  const head = Buffer.concat([MARKER, fingerprint(JSON.stringify(type.schema()))])
  return (event) => {
    const value = Buffer.concat([head, type.toBuffer(event)])
    if (value.length > VALUE_BYTES_MAX) {
      throw new RangeError(`${value.length} bytes are too many; a value has at most ${VALUE_BYTES_MAX}`)
    }
    return value
  }
}

/** Return the CRC-64-AVRO of a schema's canonical form, in little-endian order. */
export function fingerprint(canonical) {
  let crc = EMPTY
  for (const byte of Buffer.from(canonical)) {
    crc ^= BigInt(byte)
    for (let bit = 0; bit < 8; bit += 1) {
      crc = (crc >> 1n) ^ (crc & 1n ? EMPTY : 0n)
    }
  }
  const bytes = Buffer.alloc(8)
  bytes.writeBigUInt64LE(crc)
  return bytes
}
