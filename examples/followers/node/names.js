'use strict';
// Cache keys from a dataset's templates: docs/protocol.md, "Cache keys and tags".
const { createHash } = require('node:crypto');

const MAX_BYTES = 512;

const INTEGER = /^(0|-?[1-9][0-9]*)$/;

// Returns dataset to section, of what freshet schema hash --json prints.
function sectionsOf(printed) {
  for (const { dataset, hash } of printed) {
    if (typeof hash === 'string' && hash !== '' && hash !== '-') continue;
    throw new TypeError(`section of dataset ${dataset}: it has no hash; give what freshet schema hash --json prints`);
  }
  return Object.fromEntries(printed.map((section) => [section.dataset, section]));
}

// Returns the one spelling of a value, or undefined if this is another, which a worker would never name.
function text(kind, value) {
  switch (kind) {
    case 'integer':
      if (typeof value === 'bigint' || Number.isSafeInteger(value)) return String(value);
      return typeof value === 'string' && INTEGER.test(value) ? value : undefined;
    case 'string': // half a surrogate pair is no character in UTF-8
      return typeof value === 'string' && Buffer.from(value).toString() === value ? value : undefined;
    default:
      return typeof value === 'boolean' ? String(value) : undefined;
  }
}

// Returns the cache key that template makes of values, or null if one is missing: then there is no key.
// kinds: property to 'integer', 'string' or 'boolean'.
function render(template, kinds, values) {
  let missing = false;
  const name = template.replace(/\{([^{}]+)\}/g, (_, property) => {
    const value = values[property] ?? null;
    missing ||= value === null;
    if (value === null) return '';
    const plain = text(kinds[property], value);
    if (plain === undefined) throw new TypeError(`render ${template}: ${property} is not the only spelling of a ${kinds[property]}: convert it before (integers above 2^53 to BigInt)`);
    // eslint-disable-next-line no-control-regex
    return plain.replace(/[\x00-\x20\x7f%:{}]/g, (c) => `%${c.charCodeAt(0).toString(16).toUpperCase().padStart(2, '0')}`);
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

module.exports = { sectionsOf, render, laneOf };
