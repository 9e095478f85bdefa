/**
 * Envelopes as text, for engines that keep text: JSON, with what JSON does not know in a form of its own.
 */
import type { Envelope } from './contracts.ts';

/** Stands where a value has another form: `{ [FORM]: 'bytes', is: … }`. */
const FORM = '$form';

export function envelopeToText(envelope: Envelope): string {
  const { content, headers, properties, ...plain } = envelope;
  return JSON.stringify({
    ...plain,
    content: Buffer.from(content).toString('base64'),
    headers: pack(headers),
    properties: pack(properties),
  });
}

/** What is no such text comes back as the content of an envelope without an id, so that a person gets to see it. */
export function envelopeFromText(text: string): Envelope {
  try {
    const { content, headers, properties, ...plain } = JSON.parse(text);
    const envelope = {
      ...plain,
      content: Buffer.from(content, 'base64'),
      headers: unpack(headers),
      properties: unpack(properties),
    };
    if (isEnvelope(envelope)) return envelope;
  } catch {
    // It is none.
  }
  return {
    id: null,
    content: Buffer.from(text),
    contentType: null,
    headers: {},
    properties: {},
    publishedAtMs: null,
    busyCount: 0,
    failedCount: 0,
    isReplay: false,
  };
}

function isEnvelope(given: Record<string, unknown>): given is Record<keyof Envelope, never> {
  const { id, contentType, headers, properties, publishedAtMs, isReplay } = given;
  const isCount = (count: unknown): boolean => Number.isSafeInteger(count) && Number(count) >= 0;
  return (
    [id, contentType].every((one) => one === null || typeof one === 'string') &&
    [headers, properties].every((one) => typeof one === 'object' && one !== null) &&
    (publishedAtMs === null || Number.isFinite(publishedAtMs)) &&
    [given['busyCount'], given['failedCount']].every(isCount) &&
    typeof isReplay === 'boolean'
  );
}

function pack(value: unknown): unknown {
  if (typeof value === 'bigint') return { [FORM]: 'bigint', is: String(value) };
  if (typeof value !== 'object' || value === null) return value;
  if (value instanceof Uint8Array) {
    return { [FORM]: 'bytes', is: Buffer.from(value).toString('base64') };
  }
  if (value instanceof Date) return { [FORM]: 'date', is: value.getTime() };
  if (Array.isArray(value)) return value.map(pack);
  const packed = Object.fromEntries(Object.entries(value).map(([name, one]) => [name, pack(one)]));
  return FORM in value ? { [FORM]: 'object', is: packed } : packed;
}

function unpack(value: unknown): unknown {
  if (typeof value !== 'object' || value === null) return value;
  if (Array.isArray(value)) return value.map(unpack);
  const { [FORM]: form, is } = value as { [FORM]?: unknown; is?: unknown };
  if (form === undefined) return unpackFields(value);
  switch (form) {
    case 'bigint':
      return BigInt(is as string);
    case 'bytes':
      return Buffer.from(is as string, 'base64');
    case 'date':
      return new Date(is as number);
    default:
      return unpackFields(is as object);
  }
}

function unpackFields(value: object): object {
  return Object.fromEntries(Object.entries(value).map(([name, one]) => [name, unpack(one)]));
}
