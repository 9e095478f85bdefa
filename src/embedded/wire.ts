/**
 * Events on a socket: one line of JSON each. Nothing that arrives is trusted: a line that is too long, or is not exactly
 * an event, ends its connection.
 */
import { MAX_KEY_LENGTH } from '../core/options.ts';
import type { StoreEvent } from '../core/store.ts';

/** Characters of a line: a key and an owner value at their longest, all of it escaped, fit in. */
export const MAX_LINE_LENGTH = 16_384;
/** UTF-16 code units of an owner value. */
const MAX_OWNER_LENGTH = 1_024;
const EPOCH = /^\d{1,20}$/;

export function encodeEvent(event: StoreEvent): string {
  const plain = event.is === 'granted' ? { ...event, epoch: String(event.epoch) } : event;
  return `${JSON.stringify(plain)}\n`;
}

/** `null` for anything that is not an event which one process tells another. */
export function decodeEvent(line: string): StoreEvent | null {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch {
    return null;
  }
  if (typeof value !== 'object' || value === null) return null;
  const { is, key, owner, epoch, wanted } = value as Record<string, unknown>;
  if (!isText(key, MAX_KEY_LENGTH)) return null;
  if (is === 'wanted' || is === 'available') return { is, key };
  if (is !== 'granted' || !isText(owner, MAX_OWNER_LENGTH)) return null;
  if (typeof epoch !== 'string' || !EPOCH.test(epoch) || typeof wanted !== 'boolean') return null;
  return { is, key, owner, epoch: BigInt(epoch), wanted };
}

function isText(value: unknown, maxLength: number): value is string {
  return typeof value === 'string' && value.length > 0 && value.length <= maxLength;
}

/** Cuts what arrives into lines. */
export class LineReader {
  #rest = '';

  /** The complete lines so far, or `null` once a line is too long. */
  read(chunk: string): string[] | null {
    const lines = (this.#rest + chunk).split('\n');
    this.#rest = lines.pop() ?? '';
    const longest = Math.max(this.#rest.length, ...lines.map((line) => line.length));
    return longest > MAX_LINE_LENGTH ? null : lines;
  }
}
