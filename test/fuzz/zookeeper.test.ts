/** Whatever says that it is ZooKeeper, and whatever it answers: a lease that can be right, or a typed error. */
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net';
import fc from 'fast-check';
import { LockManager } from 'leasehold';
import { zookeeper } from 'leasehold/zookeeper';
import { afterAll, describe, expect, test } from 'vitest';
import { nothingEscapes, typedErrorOf } from './settled.ts';

nothingEscapes();

const servers: Server[] = [];
const sockets = new Set<Socket>();
/** Drops that are not answered are tried again for seconds: all managers are closed at once, at the end. */
const closing: Promise<void>[] = [];

afterAll(async () => {
  await Promise.all(closing);
  for (const socket of sockets) socket.destroy();
  for (const server of servers) server.close();
});

const int = (value: number): Buffer => {
  const bytes = Buffer.alloc(4);
  bytes.writeInt32BE(value);
  return bytes;
};
const long = (value: bigint): Buffer => {
  const bytes = Buffer.alloc(8);
  bytes.writeBigInt64BE(value);
  return bytes;
};
const text = (value: string): Buffer =>
  Buffer.concat([int(Buffer.byteLength(value)), Buffer.from(value)]);
const frame = (...parts: readonly Buffer[]): Buffer => {
  const body = Buffer.concat(parts);
  return Buffer.concat([int(body.length), body]);
};

/** What is sent at the beginning: the time-out that was asked for. */
type Welcome = (timeoutMs: number) => Buffer;

const welcome: Welcome = (timeoutMs) =>
  frame(int(0), int(Math.max(20, timeoutMs)), long(5n), int(16), Buffer.alloc(17));

interface Asked {
  readonly xid: number;
  readonly type: number;
  readonly path: string;
  /** The last name that somebody wanted to have made. */
  readonly made: string;
}
/** What is sent for one request. */
type Reply = (asked: Asked) => Buffer;

const GET_CHILDREN2 = 12;
const CREATE2 = 15;
const NUMBER = '0000000003';

const bytes = fc.uint8Array({ maxLength: 100 }).map((given) => Buffer.from(given));
const path = fc.oneof(
  fc.constantFrom('/leasehold/k', '/leasehold/k/o-1000000-1000000-0000000001', '', '/', 'k'),
  fc.constantFrom('/leasehold/k/o-1-1-', '/leasehold/k/%-1-1-0000000001', `/${'x'.repeat(600)}`),
  fc.string(),
);
const name = path.map((one) => one.slice(one.lastIndexOf('/') + 1));
const rest = (size: number) =>
  fc.uint8Array({ minLength: size, maxLength: size }).map((given) => Buffer.from(given));
/** It begins with the transaction that made the node. */
const stat = fc.oneof(
  rest(68),
  fc.tuple(fc.nat(), rest(60)).map(([czxid, more]) => Buffer.concat([long(BigInt(czxid)), more])),
);
const count = fc.constantFrom(0, 1, 2, -1, -2, 2 ** 31 - 1, 1_000_000);
const body: fc.Arbitrary<Buffer> = fc.oneof(
  bytes,
  stat,
  // Made: a path and a stat.
  fc.tuple(path, stat).map(([given, facts]) => Buffer.concat([text(given), facts])),
  // Children and a stat, as many as are said or not.
  fc
    .tuple(fc.array(name, { maxLength: 5 }), stat, fc.option(count))
    .map(([names, facts, said]) =>
      Buffer.concat([int(said ?? names.length), ...names.map(text), facts]),
    ),
  // Results of a transaction.
  fc
    .array(fc.tuple(fc.constantFrom(-1, 1, 2, 13, 99), fc.boolean(), fc.integer(), bytes))
    .map((all) =>
      Buffer.concat(
        all.flatMap(([type, isDone, error, rest]) => [
          int(type),
          Buffer.from([isDone ? 1 : 0]),
          int(error),
          rest,
        ]),
      ),
    ),
);
const code = fc.constantFrom(0, 0, 0, 0, -4, -100, -101, -102, -110, -111, -112, -115, -999, 7);
/** Nearly what was asked for: a node that was made, or who stands in line beside it. */
const nearReply: fc.Arbitrary<Reply> = fc
  .tuple(fc.array(name, { maxLength: 3 }), stat)
  .map(([others, facts]) => ({ xid, type, path: where, made }: Asked) => {
    const names = [made, ...others].map(text);
    const children = [int(names.length), ...names, facts];
    const rest = type === GET_CHILDREN2 ? children : [text(`${where}${NUMBER}`), facts];
    return frame(int(xid), long(9n), int(0), ...rest);
  });
const anyReply: fc.Arbitrary<Reply> = fc.oneof(
  nearReply,
  nearReply,
  fc.tuple(fc.integer(), code, body, fc.boolean()).map(
    ([zxid, error, rest]) =>
      ({ xid }: Asked) =>
        frame(int(xid), long(BigInt(zxid)), int(error), rest),
  ),
  // Of another request, a ping, an event.
  fc.tuple(fc.constantFrom(-1, -2, -4, 0, 1, 77), code, body).map(
    ([xid, error, rest]) =>
      () =>
        frame(int(xid), long(1n), int(error), rest),
  ),
  fc.tuple(fc.integer({ min: -2, max: 6 }), path).map(
    ([type, where]) =>
      () =>
        frame(int(-1), long(-1n), int(0), int(type), int(3), text(where)),
  ),
  bytes.map((given) => () => frame(given)),
  bytes.map((given) => () => given),
  fc.constantFrom(-1, -4, -5, -(2 ** 31), 2 ** 31 - 1, 100_000_000).map((size) => () => int(size)),
);
const anyWelcome: fc.Arbitrary<Welcome> = fc.oneof(
  { weight: 8, arbitrary: fc.constant(welcome) },
  { weight: 1, arbitrary: bytes.map((one) => () => one) },
  { weight: 1, arbitrary: bytes.map((one) => () => frame(one)) },
);

/** A number, a type and mostly a path, behind four bytes of length. */
function askedIn(bytes: Buffer): Omit<Asked, 'made'> {
  if (bytes.length < 16) return { xid: bytes.readInt32BE(4), type: 0, path: '' };
  const size = Math.max(0, bytes.readInt32BE(12));
  const path = bytes.toString('utf8', 16, 16 + size);
  return { xid: bytes.readInt32BE(4), type: bytes.readInt32BE(8), path };
}

/** A server that welcomes, and then answers each request with the next of these. */
async function serve(begin: Welcome, replies: readonly Reply[]): Promise<string> {
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on('error', () => {});
    let isWelcomed = false;
    let turn = 0;
    let made = '';
    socket.on('data', (chunk) => {
      for (let at = 0; at + 4 <= chunk.length; at += 4 + chunk.readInt32BE(at)) {
        const reply = replies[turn % replies.length] as Reply;
        const asked = askedIn(chunk.subarray(at));
        if (asked.type === CREATE2)
          made = asked.path.slice(asked.path.lastIndexOf('/') + 1) + NUMBER;
        const answer = isWelcomed ? reply({ ...asked, made }) : begin(chunk.readInt32BE(at + 16));
        socket.write(answer);
        if (isWelcomed) turn += 1;
        isWelcomed = true;
      }
    });
  });
  servers.push(server);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return `127.0.0.1:${(server.address() as AddressInfo).port}`;
}

let leases = 0;

async function use(connect: string): Promise<void> {
  const store = zookeeper({ connect, requestTimeoutMs: 40 });
  const locks = new LockManager({ store, ttlMs: 200 });
  try {
    for (const options of [{}, { mode: 'shared' }, { limit: 3 }] as const) {
      await typedErrorOf(async () => {
        const lease = await locks.acquire('k', { ...options, waitMs: 150 });
        expect(lease.tokenText).toMatch(/^\d{20}$/);
        leases += 1;
        void lease.release();
      });
    }
    await typedErrorOf(() => locks.tryAcquire('k'));
  } finally {
    closing.push(locks.close());
  }
}

describe('answers', () => {
  test('of any kind', { timeout: 240_000 }, async () => {
    const dialogue = fc.tuple(anyWelcome, fc.array(anyReply, { minLength: 1, maxLength: 6 }));
    const dialogues = fc.array(dialogue, { minLength: 8, maxLength: 8 });
    const property = fc.asyncProperty(dialogues, async (given) => {
      const used = given.map(async ([begin, replies]) => use(await serve(begin, replies)));
      await Promise.all(used);
    });
    await fc.assert(property, { numRuns: 25, endOnFailure: true });
    await Promise.all(closing);
    // Some of it looked right.
    expect(leases).toBeGreaterThan(0);
  });

  test.each([-1, -4, -5, -(2 ** 31), 2 ** 31 - 1])(
    'a frame of %i bytes ends the connection',
    async (size) => {
      const connect = await serve(welcome, [() => Buffer.concat([int(size), Buffer.alloc(64)])]);
      const store = zookeeper({ connect, requestTimeoutMs: 5_000 });
      await store.open(() => {});
      const claim = { key: 'k', owner: 'o', units: 1, capacity: 1, ttlMs: 200, wait: false };
      await expect(store.claim(claim)).rejects.toThrow();
      await store.close();
    },
  );
});
