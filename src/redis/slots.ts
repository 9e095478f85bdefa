/**
 * Hash slots of a Redis Cluster, and a short tag for each of them.
 *
 * Keys that belong together carry a common `{tag}` and so share a slot. A tag that was made for the slot of a lock puts
 * what belongs to the lock beside it, whatever its name looks like and whatever tag it carries itself.
 */

export const SLOTS = 16_384;

/** CRC-16/XMODEM, as the Redis Cluster specification has it. */
const CRC16: Uint16Array = Uint16Array.from({ length: 256 }, (_, byte) => {
  let crc = byte << 8;
  for (let bit = 0; bit < 8; bit += 1) crc = (crc << 1) ^ (crc & 0x8000 ? 0x1021 : 0);
  return crc;
});

export function slotOf(key: string): number {
  const open = key.indexOf('{');
  const close = open === -1 ? -1 : key.indexOf('}', open + 1);
  const hashed = close > open + 1 ? key.slice(open + 1, close) : key;
  let crc = 0;
  for (let index = 0; index < hashed.length; index += 1) {
    const code = hashed.charCodeAt(index);
    // Nearly all names are ASCII, whose characters are their bytes.
    if (code > 0x7f) return crcOf(Buffer.from(hashed)) % SLOTS;
    crc = withByte(crc, code);
  }
  return crc % SLOTS;
}

function crcOf(bytes: Uint8Array): number {
  return bytes.reduce(withByte, 0);
}

function withByte(crc: number, byte: number): number {
  return ((crc << 8) ^ (CRC16[((crc >> 8) ^ byte) & 0xff] as number)) & 0xffff;
}

let tags: string[] | null = null;

/** A text that hashes to the slot. */
export function tagOf(slot: number): string {
  tags ??= makeTags();
  return tags[slot] as string;
}

/** Every slot has a number below a quarter of a million that hashes to it. */
function makeTags(): string[] {
  const made: string[] = [];
  let missing = SLOTS;
  for (let number = 0; missing > 0; number += 1) {
    const tag = number.toString(36);
    const slot = slotOf(tag);
    if (made[slot] !== undefined) continue;
    made[slot] = tag;
    missing -= 1;
  }
  return made;
}
