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
/** The names of headers that a copy has no room for. */
const LEFT_OUT = `${OURS}left-out`;
/** When a replay of a dead letter was begun, which may have been published since; and by whom. */
const REPLAY_BEGUN_AT = `${OURS}replay-begun-at`;
const REPLAY_RUN = `${OURS}replay-run`;
/** Tells returned messages apart; it is of no use to anybody else. */
export const PUBLISH_NUMBER: string = `${OURS}publish`;

/** What the broker adds on the way, and would add to again. */
const BROKERS = /^x-(?:death|delivery-count|acquired-count|(?:first|last)-death-\w+)$/;
/** amqplib has 64 kB for all headers of a message; others may have sent more. */
const MAX_DETAIL_LENGTH = 4_000;
const MAX_HEADERS_BYTES = 48_000;
/** Short texts of the protocol. They may have grown while they were read: what is no UTF-8 becomes three bytes for one. */
const MAX_SHORT_BYTES = 255;
/** Lists and tables inside of each other, in headers. Somebody may send thousands, which no stack takes. */
const MAX_DEPTH = 32;
const TOO_DEEP = '(too deep)';

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

/**
 * A message that was delivered from this queue. Copies of it go back to that one, or to the one it names, when that is one
 * of these: whoever may publish here must not choose where this process publishes.
 */
export function readEnvelope(
  message: AmqpMessage,
  queue: string,
  queues: readonly string[],
): Envelope {
  const { properties } = message;
  const headers = headersOf(message);
  const named = text(headers[QUEUE]);
  const home = named !== null && queues.includes(named) ? named : queue;
  const kept: Record<string, unknown> = { queue: home };
  for (const name of KEPT) if (canTravel(properties[name])) kept[name] = properties[name];
  const id = text(properties['messageId']);
  return {
    id: canTravel(id) ? id : null,
    content: message.content,
    contentType: text(properties['contentType']),
    headers: othersOf(headers),
    properties: kept,
    publishedAtMs: readTime(headers[PUBLISHED_AT], properties['timestamp']),
    busyCount: count(headers[BUSY]),
    failedCount: count(headers[FAILED]),
    isReplay: headers[REPLAY] === true,
  };
}

/** Headers that are neither ours nor the broker's. */
function othersOf(headers: Headers): Headers {
  const names = Object.keys(headers).filter(
    (name) => name === LEFT_OUT || !(name.startsWith(OURS) || BROKERS.test(name)),
  );
  return Object.fromEntries(names.map((name) => [name, toPlain(headers[name], MAX_DEPTH)]));
}

/** Where a copy goes back to. */
export function queueOf(envelope: Envelope, fallback: string): string {
  return (envelope.properties as RabbitProperties).queue ?? fallback;
}

/** What amqplib needs to publish a copy. */
export function publishOptions(envelope: Envelope, note?: DeadLetterNote): Record<string, unknown> {
  const { queue, ...kept } = envelope.properties as RabbitProperties & Record<string, unknown>;
  const others: [string, unknown][] = [];
  const left: string[] = [];
  let bytes = 0;
  for (const [name, value] of Object.entries(envelope.headers)) {
    const one = fromPlain(value);
    bytes += Buffer.byteLength(name) + 1 + sizeOf(one);
    if (bytes <= MAX_HEADERS_BYTES) others.push([shortened(name), one]);
    else left.push(name);
  }
  const headers: Record<string, unknown> = Object.fromEntries(others);
  if (left.length > 0) headers[LEFT_OUT] = left.join(', ').slice(0, MAX_DETAIL_LENGTH);
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

/** A replay of a dead letter that was begun: whatever comes of it, the replay has this time. */
export interface ReplayMark {
  readonly begunAtMs: number;
  /** Which call began it. */
  readonly run: string;
}

/** What amqplib needs to put the letter back, as one whose replay has begun. */
export function markedLetterOptions(
  { envelope, deadSinceMs, ...note }: DeadLetter,
  { begunAtMs, run }: ReplayMark,
): Record<string, unknown> {
  const options = publishOptions(envelope, note);
  const headers = {
    ...(options['headers'] as Headers),
    [DEAD_AT]: deadSinceMs ?? begunAtMs,
    [REPLAY_BEGUN_AT]: begunAtMs,
    [REPLAY_RUN]: run,
  };
  return { ...options, headers };
}

export function readReplayMark(message: AmqpMessage): ReplayMark | null {
  const headers = headersOf(message);
  const begunAtMs = headers[REPLAY_BEGUN_AT];
  if (!Number.isSafeInteger(begunAtMs)) return null;
  return { begunAtMs: begunAtMs as number, run: text(headers[REPLAY_RUN]) ?? '' };
}

/** A dead letter of ours, or one that the broker itself put there. */
export function readDeadLetter(message: AmqpMessage, queue: string): DeadLetter {
  const headers = headersOf(message);
  const named = text(headers[QUEUE]);
  const envelope = readEnvelope(message, queue, named === null ? [] : [named]);
  const reason = text(headers[DEAD_REASON]);
  if (reason !== null) {
    return {
      envelope,
      reason: reason as DeadLetterReason,
      detail: text(headers[DEAD_DETAIL]) ?? '',
      deadSinceMs: readDate(headers[DEAD_AT]),
    };
  }
  const [death] = (Array.isArray(headers['x-death']) ? headers['x-death'] : []) as Headers[];
  const time = (death?.['time'] as { readonly value?: unknown } | undefined)?.value;
  const from = text(death?.['queue']) ?? queue;
  return {
    envelope: { ...envelope, properties: { ...envelope.properties, queue: from } },
    reason: 'failed',
    detail: `put here by the broker, from '${from}': ${text(death?.['reason']) ?? 'unknown'}`,
    deadSinceMs: typeof time === 'number' ? readDate(time * 1_000) : null,
  };
}

function readTime(header: unknown, timestamp: unknown): number | null {
  if (typeof header === 'number' && Number.isSafeInteger(header)) return header;
  if (typeof timestamp !== 'number' || !Number.isSafeInteger(timestamp)) return null;
  // It counts in seconds, and was cut off: of two copies, the older one must not look younger.
  return timestamp * 1_000;
}

/** `null` for what is no time, or none that a date can have. */
function readDate(ms: unknown): number | null {
  return typeof ms === 'number' && Number.isFinite(new Date(ms).getTime()) ? ms : null;
}

function text(value: unknown): string | null {
  return typeof value === 'string' && value !== '' ? value : null;
}

function count(value: unknown): number {
  return typeof value === 'number' && Number.isSafeInteger(value) && value > 0 ? value : 0;
}

/** Without what amqplib makes of a header that is called `__proto__`: no table has what it was not sent with. */
function headersOf({ properties }: AmqpMessage): Headers {
  return { ...(properties['headers'] as Headers | undefined) };
}

/** Whether a property can be sent again. */
function canTravel(value: unknown): boolean {
  if (typeof value === 'string') return Buffer.byteLength(value) <= MAX_SHORT_BYTES;
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0;
}

/** Bytes in a header as JSON can hold them; amqplib writes its other types in the same way. */
const BYTES = 'bytes';
/** A table that has such a name in it by itself. */
const TABLE = 'object';

function toPlain(value: unknown, depth: number): unknown {
  if (typeof value !== 'object' || value === null) return value;
  // A table may say that it descends from bytes.
  if (ArrayBuffer.isView(value)) {
    return { '!': BYTES, value: Buffer.from(value as Uint8Array).toString('base64') };
  }
  if (depth === 0) return TOO_DEEP;
  if (Array.isArray(value)) return value.map((one) => toPlain(one, depth - 1));
  const own = { ...value };
  if (isTyped(own)) return own;
  const table = mapValues(own, (one) => toPlain(one, depth - 1));
  return '!' in own ? { '!': TABLE, value: table } : table;
}

/** As amqplib reads the two types that JavaScript does not have, with values that it can write again. */
function isTyped(value: object): boolean {
  const { '!': type, value: inner } = value as { '!'?: unknown; value?: unknown };
  if (type === 'timestamp') return Number.isSafeInteger(inner) && Number(inner) >= 0;
  if (type !== 'decimal') return false;
  const { places, digits } = (inner ?? {}) as { places?: unknown; digits?: unknown };
  const isWithin = (one: unknown, most: number): boolean =>
    Number.isInteger(one) && Number(one) >= 0 && Number(one) <= most;
  return isWithin(places, 255) && isWithin(digits, 0xffff_ffff);
}

function fromPlain(value: unknown): unknown {
  // amqplib takes some of these for whole numbers.
  if (typeof value === 'number' && !Number.isSafeInteger(value)) return { '!': 'double', value };
  if (typeof value === 'bigint') return { '!': 'int64', value };
  if (typeof value !== 'object' || value === null) return value;
  if (ArrayBuffer.isView(value)) return Buffer.from(value as Uint8Array);
  if (Array.isArray(value)) return value.map((one) => fromPlain(one) ?? null);
  const { '!': type, value: inner } = value as { '!'?: unknown; value?: unknown };
  if (type === BYTES && typeof inner === 'string') return Buffer.from(inner, 'base64');
  if (type === TABLE && typeof inner === 'object' && inner !== null) {
    return { '!': TABLE, value: mapValues(inner, fromPlain, shortened) };
  }
  return type === undefined ? mapValues(value, fromPlain, shortened) : value;
}

/** In bytes on the wire, at the most. */
function sizeOf(value: unknown): number {
  if (typeof value === 'string') return Buffer.byteLength(value) + 5;
  if (Buffer.isBuffer(value)) return value.length + 5;
  if (typeof value !== 'object' || value === null) return 9;
  return Object.entries(value).reduce(
    (sum, [name, one]) => sum + Buffer.byteLength(name) + 1 + sizeOf(one),
    5,
  );
}

/** What is no UTF-8 may have grown beyond what a name may have. */
function shortened(name: string): string {
  return Buffer.byteLength(name) <= MAX_SHORT_BYTES ? name : name.slice(0, MAX_SHORT_BYTES / 3);
}

function mapValues(
  value: object,
  map: (one: unknown) => unknown,
  rename: (name: string) => string = (name) => name,
): Record<string, unknown> {
  return Object.fromEntries(Object.entries(value).map(([name, one]) => [rename(name), map(one)]));
}
