/**
 * Between messages of AMQP and envelopes. What the consumer needs for itself travels in headers `x-leasehold-…`, which
 * nobody else sees; all other headers and properties stay as the producer set them.
 */
import type {
  DeadLetter,
  DeadLetterNote,
  DeadLetterReason,
  Envelope,
} from '../consumer/contracts.ts';
import type { AmqpMessage } from './client.ts';

const OURS = 'x-leasehold-';
/** Since 1970, in milliseconds: the property `timestamp` counts in seconds. */
const PUBLISHED_AT = `${OURS}published-at`;
const BUSY = `${OURS}busy`;
const FAILED = `${OURS}failed`;
const REPLAY = `${OURS}replay`;
/** The queue that it was in first: copies go back there. */
const QUEUE = `${OURS}queue`;
const DEAD_REASON = `${OURS}dead-reason`;
const DEAD_DETAIL = `${OURS}dead-detail`;
const DEAD_AT = `${OURS}dead-at`;
/** Tells returned messages apart; it is of no use to anybody else. */
export const PUBLISH_NUMBER: string = `${OURS}publish`;

/** What the broker adds on the way, and would add to again. */
const BROKERS = /^x-(?:death|delivery-count|acquired-count|(?:first|last)-death-\w+)$/;
/** All headers of a message together have 64 kB. */
const MAX_DETAIL_LENGTH = 4_000;

/** The properties that travel with a copy as they are, besides those that are fields of an envelope. */
const KEPT = [
  'contentEncoding',
  'priority',
  'correlationId',
  'replyTo',
  'type',
  'appId',
  'timestamp',
] as const;

/** What an envelope's `properties` are here. */
interface RabbitProperties {
  /** In which queue the message was first. */
  readonly queue?: string;
}

type Headers = Readonly<Record<string, unknown>>;

export function readEnvelope(message: AmqpMessage, queue: string): Envelope {
  const { properties } = message;
  const headers = (properties['headers'] ?? {}) as Headers;
  const kept: Record<string, unknown> = { queue: text(headers[QUEUE]) ?? queue };
  for (const name of KEPT) if (properties[name] !== undefined) kept[name] = properties[name];
  const others: Record<string, unknown> = {};
  for (const name of Object.keys(headers)) {
    if (!name.startsWith(OURS) && !BROKERS.test(name)) others[name] = toPlain(headers[name]);
  }
  return {
    id: text(properties['messageId']),
    content: message.content,
    contentType: text(properties['contentType']),
    headers: others,
    properties: kept,
    publishedAtMs: readTime(headers[PUBLISHED_AT], properties['timestamp']),
    busyCount: count(headers[BUSY]),
    failedCount: count(headers[FAILED]),
    isReplay: headers[REPLAY] === true,
  };
}

/** Where a copy goes back to. */
export function queueOf(envelope: Envelope, fallback: string): string {
  return (envelope.properties as RabbitProperties).queue ?? fallback;
}

/** What amqplib needs to publish a copy. */
export function publishOptions(envelope: Envelope, note?: DeadLetterNote): Record<string, unknown> {
  const { queue, ...kept } = envelope.properties as RabbitProperties & Record<string, unknown>;
  const headers: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(envelope.headers)) headers[name] = fromPlain(value);
  if (queue !== undefined) headers[QUEUE] = queue;
  if (envelope.publishedAtMs !== null) headers[PUBLISHED_AT] = envelope.publishedAtMs;
  if (envelope.busyCount > 0) headers[BUSY] = envelope.busyCount;
  if (envelope.failedCount > 0) headers[FAILED] = envelope.failedCount;
  if (envelope.isReplay) headers[REPLAY] = true;
  if (note) {
    headers[DEAD_REASON] = note.reason;
    headers[DEAD_DETAIL] = note.detail.slice(0, MAX_DETAIL_LENGTH);
    headers[DEAD_AT] = Date.now();
  }
  return {
    ...kept,
    messageId: envelope.id ?? undefined,
    contentType: envelope.contentType ?? undefined,
    headers,
    persistent: true,
    mandatory: true,
  };
}

/** A dead letter of ours, or one that the broker itself put there. */
export function readDeadLetter(message: AmqpMessage, queue: string): DeadLetter {
  const headers = (message.properties['headers'] ?? {}) as Headers;
  const envelope = readEnvelope(message, queue);
  const reason = text(headers[DEAD_REASON]);
  if (reason !== null) {
    return {
      envelope,
      reason: reason as DeadLetterReason,
      detail: text(headers[DEAD_DETAIL]) ?? '',
      deadSinceMs: typeof headers[DEAD_AT] === 'number' ? headers[DEAD_AT] : null,
    };
  }
  const [death] = (Array.isArray(headers['x-death']) ? headers['x-death'] : []) as Headers[];
  const time = (death?.['time'] as { readonly value?: unknown } | undefined)?.value;
  const from = text(death?.['queue']) ?? queue;
  return {
    envelope: { ...envelope, properties: { ...envelope.properties, queue: from } },
    reason: 'failed',
    detail: `put here by the broker, from '${from}': ${text(death?.['reason']) ?? 'unknown'}`,
    deadSinceMs: typeof time === 'number' ? time * 1_000 : null,
  };
}

function readTime(header: unknown, timestamp: unknown): number | null {
  if (typeof header === 'number' && Number.isSafeInteger(header)) return header;
  if (typeof timestamp !== 'number' || !Number.isSafeInteger(timestamp)) return null;
  // It counts in seconds, and was cut off: of two copies, the older one must not look younger.
  return timestamp * 1_000;
}

function text(value: unknown): string | null {
  return typeof value === 'string' && value !== '' ? value : null;
}

function count(value: unknown): number {
  return typeof value === 'number' && Number.isSafeInteger(value) && value > 0 ? value : 0;
}

/** Bytes in a header as JSON can hold them; amqplib writes its other types in the same way. */
const BYTES = 'bytes';

function toPlain(value: unknown): unknown {
  if (typeof value !== 'object' || value === null) return value;
  if (Buffer.isBuffer(value)) return { '!': BYTES, value: value.toString('base64') };
  if (Array.isArray(value)) return value.map(toPlain);
  return mapValues(value, toPlain);
}

function fromPlain(value: unknown): unknown {
  if (typeof value !== 'object' || value === null) return value;
  if (value instanceof Uint8Array) return Buffer.from(value);
  if (Array.isArray(value)) return value.map(fromPlain);
  const { '!': type, value: inner } = value as { '!'?: unknown; value?: unknown };
  if (type === BYTES && typeof inner === 'string') return Buffer.from(inner, 'base64');
  return type === undefined ? mapValues(value, fromPlain) : value;
}

function mapValues(value: object, map: (one: unknown) => unknown): Record<string, unknown> {
  return Object.fromEntries(Object.entries(value).map(([name, one]) => [name, map(one)]));
}
