/** Whatever somebody publishes: it can be read, and a copy of it can be sent again. */
import { createRequire } from 'node:module';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  publishOptions,
  queueOf,
  readDeadLetter,
  readEnvelope,
} from '../../dist/src/rabbitmq/envelope.js';
import { ROOT } from '../package/installed.ts';
import { nothingEscapes } from './settled.ts';

nothingEscapes();

interface Codec {
  readonly decodeFields: (bytes: Buffer) => Record<string, unknown>;
}
interface Definitions {
  readonly encodeProperties: (id: number, channel: number, size: number, all: object) => Buffer;
  readonly BasicProperties: number;
}

/** amqplib offers neither; they are what decides. */
const load = createRequire(import.meta.url);
const { decodeFields } = load(join(ROOT, 'node_modules/amqplib/lib/codec.js')) as Codec;
const { encodeProperties, BasicProperties } = load(
  join(ROOT, 'node_modules/amqplib/lib/defs.js'),
) as Definitions;
const { publish } = load(join(ROOT, 'node_modules/amqplib/lib/api_args.js')) as {
  readonly publish: (exchange: string, routingKey: string, options: object) => object;
};

function uint32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}

const bytes = (most: number) =>
  fc.uint8Array({ maxLength: most }).map((given) => Buffer.from(given));
const sized = (tag: string, body: Buffer): Buffer =>
  Buffer.concat([Buffer.from(tag), uint32(body.length), body]);
const fixed = (tag: string, size: number) =>
  fc
    .uint8Array({ minLength: size, maxLength: size })
    .map((body) => Buffer.concat([Buffer.from(tag), body]));

/** Names that mean something to somebody, and others. */
const anyName = fc.oneof(
  fc.constantFrom('!', 'value', '__proto__', 'constructor', 'x-death', 'x-leasehold-queue'),
  fc.constantFrom('x-leasehold-busy', 'x-leasehold-failed', 'x-leasehold-replay', 'toString'),
  fc.constantFrom('x-leasehold-published-at', 'x-leasehold-dead-reason', 'x-leasehold-dead-at'),
  fc.constantFrom('places', 'digits', 'queue', 'reason', 'time'),
  fc.string({ maxLength: 20 }),
);
const nameBytes = fc.oneof(
  anyName.map((name) => Buffer.from(name)),
  bytes(255),
);
const anyText = fc.oneof(
  fc.constantFrom('bytes', 'object', 'timestamp', 'decimal', 'int64', 'bogus', 'other', 'q.1'),
  fc.string(),
);

/** One field as it is on the wire, of any type, with any bits. */
const { table } = fc.letrec<{ table: Buffer; field: Buffer }>((tie) => ({
  table: fc
    .array(fc.tuple(nameBytes, tie('field')), { maxLength: 5 })
    .map((fields) =>
      Buffer.concat(fields.flatMap(([name, value]) => [Buffer.from([name.length]), name, value])),
    ),
  field: fc.oneof(
    { depthSize: 'small' },
    anyText.map((text) => sized('S', Buffer.from(text))),
    bytes(40).map((text) => sized('S', text)),
    fixed('d', 8),
    fixed('f', 4),
    fixed('l', 8),
    fixed('T', 8),
    fixed('D', 5),
    fixed('b', 1),
    fixed('u', 2),
    fixed('I', 4),
    fixed('i', 4),
    fixed('t', 1),
    fc.constant(Buffer.from('V')),
    bytes(40).map((body) => sized('x', body)),
    tie('table').map((body) => sized('F', body)),
    fc.array(tie('field'), { maxLength: 4 }).map((all) => sized('A', Buffer.concat(all))),
  ),
}));

const anyProperty = fc.oneof(
  fc.string(),
  bytes(255).map((given) => given.toString()),
  fc.constantFrom<unknown>(undefined, 0, 255, 2 ** 63, Number.NaN),
);
const anyProperties = fc.record(
  {
    messageId: fc.oneof(fc.string(), bytes(255).map(String), fc.constant(undefined)),
    contentType: fc.oneof(fc.string(), bytes(255).map(String), fc.constant(undefined)),
    timestamp: fc.oneof(fc.maxSafeNat(), fc.constantFrom(undefined, 2 ** 64, 2 ** 53)),
    correlationId: anyProperty.filter((one) => typeof one !== 'number'),
    headers: table.map((given) => decodeFields(given)),
  },
  { requiredKeys: [] },
);

function messageOf(properties: object): never {
  return {
    content: Buffer.from('{}'),
    fields: { deliveryTag: 1, redelivered: false, routingKey: 'q' },
    properties: properties as Record<string, unknown>,
  } as never;
}

/** As amqplib would write it; throws where amqplib would. */
function encode(options: object): void {
  const fields = publish('', 'q', options);
  encodeProperties(BasicProperties, 1, 2, fields);
}

describe('a message with any headers and properties', () => {
  test('can be read, and sent again, also after a copy in an outbox', () => {
    const property = fc.property(anyProperties, (properties) => {
      const envelope = readEnvelope(messageOf(properties), 'q', ['q', 'q.1']);
      expect(['q', 'q.1']).toContain(queueOf(envelope, 'q'));
      expect(Number.isSafeInteger(envelope.busyCount)).toBe(true);
      encode(publishOptions(envelope));
      const note = { reason: 'failed', detail: 'x'.repeat(70_000) } as const;
      encode(publishOptions(envelope, note));
      encode(publishOptions(JSON.parse(JSON.stringify(envelope)), note));
    });
    fc.assert(property, { numRuns: 3_000 });
  });

  test('can be listed when it is a dead letter', () => {
    const property = fc.property(anyProperties, (properties) => {
      const letter = readDeadLetter(messageOf(properties), 'q');
      expect(typeof letter.reason).toBe('string');
      expect(typeof letter.detail).toBe('string');
      if (letter.deadSinceMs !== null) new Date(letter.deadSinceMs).toISOString();
      encode(publishOptions({ ...letter.envelope, isReplay: true }));
    });
    fc.assert(property, { numRuns: 2_000 });
  });
});

describe('headers', () => {
  const copyOf = (headers: object): Record<string, unknown> => {
    const envelope = readEnvelope(messageOf({ headers }), 'q', ['q']);
    const options = publishOptions(envelope);
    encode(options);
    return options['headers'] as Record<string, unknown>;
  };

  test('thousands deep are cut', () => {
    let deep: object = { end: true };
    for (let level = 0; level < 3_000; level += 1) deep = { a: deep };
    expect(JSON.stringify(copyOf({ deep, beside: 1 }))).toMatch(/too deep.*"beside":1/);
  });

  test('that are too many for amqplib are named', () => {
    const headers = { small: 'y', large: 'x'.repeat(60_000) };
    expect(copyOf(headers)).toMatchObject({ small: 'y', 'x-leasehold-left-out': 'large' });
    expect(copyOf(copyOf(headers))).toMatchObject({ 'x-leasehold-left-out': 'large' });
  });

  test('with the marks of other types stay tables', () => {
    const table = { '!': 'bytes', value: 'AAAA' };
    expect(copyOf({ table })).toMatchObject({ table: { '!': 'object', value: table } });
    const time = { '!': 'timestamp', value: 1_700_000_000 };
    expect(copyOf({ time })).toMatchObject({ time });
  });

  test('choose no queue but those that are read', () => {
    expect(copyOf({ 'x-leasehold-queue': 'payments' })).toMatchObject({ 'x-leasehold-queue': 'q' });
  });
});
