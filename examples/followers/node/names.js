'use strict';
// Cache keys from a dataset's templates: docs/protocol.md, "Cache keys and tags".
const { createHash } = require('node:crypto');

const MAX_BYTES = 512;

function text(template, property, value) {
  if (typeof value === 'string' || typeof value === 'boolean' || typeof value === 'bigint') return String(value);
  if (Number.isSafeInteger(value)) return String(value);
  throw new TypeError(`render ${template}: ${property} is no string, boolean or exact integer; give integers above 2^53 as BigInt`);
}

// Returns the cache key that template gives for values, or null if a property is missing: then there is no key.
function render(template, values) {
  let missing = false;
  const name = template.replace(/\{(\w+)\}/g, (_, property) => {
    const value = values[property] ?? null;
    missing ||= value === null;
    if (value === null) return '';
    // eslint-disable-next-line no-control-regex
    return text(template, property, value).replace(/[\x00-\x20\x7f%:{}]/g, (c) => `%${c.charCodeAt(0).toString(16).toUpperCase().padStart(2, '0')}`);
  });
  if (missing) return null;
  if (Buffer.byteLength(name) <= MAX_BYTES) return name;
  return `${template.split('{', 1)[0]}%.${createHash('sha256').update(name).digest('base64url')}`;
}

// Returns the lane of a cache key: CRC-32 as in zlib.
function laneOf(name, lanes) {
  let crc = 0xffffffff;
  for (const byte of Buffer.from(name)) {
    crc ^= byte;
    for (let i = 0; i < 8; i++) crc = (crc >>> 1) ^ (crc & 1 ? 0xedb88320 : 0);
  }
  return ((crc ^ 0xffffffff) >>> 0) % lanes;
}

module.exports = { render, laneOf };
