/**
 * Whatever Redis, or something that says it is Redis, answers: callers get a lease that can be right, or a typed error,
 * and no process dies of a message.
 */
import { EventEmitter } from 'node:events';
import { setImmediate } from 'node:timers/promises';
import fc from 'fast-check';
import { LeaseholdError, LockManager } from 'leasehold';
import type { Elision } from 'leasehold/consumer';
import { fenced, redis, redisOutbox, redisState } from 'leasehold/redis';
import { redlock } from 'leasehold/redlock';
import { describe, expect, test } from 'vitest';
import { nothingEscapes, typedErrorOf } from './settled.ts';

nothingEscapes();

/** What a client of ioredis can make of a reply. */
const anyReply = fc.letrec<{ reply: unknown }>((tie) => ({
  reply: fc.oneof(
    { depthSize: 'small' },
    fc.constantFrom<unknown>(null, 0, 1, 2, -1, Number.NaN, Infinity, 2 ** 53, true, false, 1n),
    fc.integer(),
    fc.string(),
    fc.constantFrom('0', '1', 'ok', 'stale', 'OK', '7:x leasehold:p:1', new Error('ERR no')),
    fc.constantFrom(Buffer.from('1'), new Map([['a', 1]])),
    fc.array(tie('reply'), { maxLength: 7 }),
    fc.tuple(fc.constantFrom(0, 1, 2, 3, 4, 5), tie('reply'), tie('reply'), tie('reply')),
  ),
})).reply;

/** Answers probes as a server would, and everything else as it likes. */
class LyingClient extends EventEmitter {
  readonly status = 'ready';
  readonly runId: string = crypto.randomUUID().replaceAll('-', '');
  readonly options = {};
  readonly #reply: () => unknown;
  readonly #isRedlock: boolean;
  readonly subscribers: LyingClient[] = [];

  constructor(reply: () => unknown, isRedlock = false) {
    super();
    this.#reply = reply;
    this.#isRedlock = isRedlock;
  }

  async connect(): Promise<void> {}
  disconnect(): void {}
  async ping(): Promise<string> {
    return 'PONG';
  }
  async subscribe(): Promise<number> {
    return 1;
  }

  duplicate(): LyingClient {
    const subscriber = new LyingClient(this.#reply, this.#isRedlock);
    this.subscribers.push(subscriber);
    return subscriber;
  }

  /** Of three clients, each has a run id of its own. */
  async call(): Promise<unknown> {
    return `run_id:${this.runId}`;
  }

  async evalsha(_sha: string, count: number, ...rest: string[]): Promise<unknown> {
    // As late as a server can answer at the earliest: timers must have their turn.
    await setImmediate();
    const isProbe = rest[0]?.includes('leasehold-probe') === true;
    if (isProbe) return [];
    const reply = this.#reply();
    if (reply instanceof Error) throw reply;
    // One answer for each operation, or nobody looks at it.
    const operations = this.#isRedlock ? count : (count - 1) / 3;
    return Array.from({ length: Math.max(1, operations) }, () => reply);
  }

  eval(...args: never[]): Promise<unknown> {
    return this.evalsha(...(args as unknown as [string, number]));
  }
}

const TTL_MS = 200;
/** Drops that are not answered are tried again for seconds: all managers are closed at once, at the end. */
const closing: Promise<void>[] = [];

async function use(locks: LockManager): Promise<void> {
  try {
    for (const options of [{}, { mode: 'shared' }, { limit: 3 }] as const) {
      await typedErrorOf(async () => {
        const lease = await locks.acquire('k', { ...options, waitMs: 5 });
        expect(lease.token).toBeGreaterThan(0n);
        expect(lease.tokenText).toMatch(/^\d{20,}$/);
        expect(Number.isFinite(lease.remainingMs())).toBe(true);
        void lease.release();
      });
    }
    await typedErrorOf(() => locks.tryAcquire('k'));
  } finally {
    closing.push(locks.close());
  }
}

describe('replies', () => {
  test('to claims, renewals and drops', { timeout: 120_000 }, async () => {
    const property = fc.asyncProperty(anyReply, async (reply) => {
      const client = new LyingClient(() => reply);
      const store = redis(client as never);
      const renewals = await outcomes(store);
      for (const renewal of renewals) expect(['held', 'lost', 'unknown']).toContain(renewal.is);
      await use(new LockManager({ store: redis(client as never), ttlMs: TTL_MS }));
    });
    await fc.assert(property, { numRuns: 100 });
    await Promise.all(closing);
  });

  /** What a renewal with that reply says; only a plain 1 or 2 means that the lease is held. */
  async function outcomes(store: ReturnType<typeof redis>) {
    const claim = { key: 'k', owner: 'o', units: 1, capacity: 1, ttlMs: TTL_MS, wait: false };
    await store.open(() => {});
    const renewals = await store.renew([claim]);
    await store.close();
    return renewals;
  }

  test.each([null, 3, '', 'yes', [1], true, Number.NaN])('%j extends no lease', async (reply) => {
    const store = redis(new LyingClient(() => reply) as never);
    expect(await outcomes(store)).toMatchObject([{ is: 'unknown' }]);
  });

  test('of the nodes of a Redlock', { timeout: 120_000 }, async () => {
    const replies = fc.tuple(anyReply, anyReply, anyReply);
    const property = fc.asyncProperty(replies, async (given) => {
      const clients = given.map((reply) => new LyingClient(() => reply, true));
      await use(new LockManager({ store: redlock(clients as never), ttlMs: TTL_MS }));
    });
    await fc.assert(property, { numRuns: 100 });
    await Promise.all(closing);
  });

  test.each([null, '', 'yes', [], ['1'], [7, 1], true, Number.NaN, 2, [1, 2], [2, 'x']])(
    'of which %j is no vote, no renewal and no drop',
    async (reply) => {
      const clients = [1, 2, 3].map(() => new LyingClient(() => reply, true));
      const store = redlock(clients as never, { requestTimeoutMs: 200 });
      await store.open(() => {});
      const claim = { key: 'k', owner: 'o', units: 1e6, capacity: 1e6, ttlMs: TTL_MS, wait: false };
      await expect(store.claim(claim)).rejects.toThrow(/quorum|majority|answered/);
      const [renewal] = await store.renew([claim]);
      expect(renewal?.is).not.toBe('held');
      await store.close();
    },
  );

  describe('to states and outboxes', () => {
    const lease = { tokenText: '7'.padStart(20, '0') };
    const message = { id: 'm', publishedAtMs: 1, isReplay: false };
    const commit = { key: 'k', lease, id: 'c', expectedVersion: 0, value: 'v' };
    const envelopeText = fc.oneof(
      fc.string(),
      fc.json(),
      fc
        .record(
          {
            id: fc.oneof(fc.string(), fc.jsonValue()),
            content: fc.oneof(fc.base64String(), fc.jsonValue()),
            contentType: fc.jsonValue(),
            headers: fc.jsonValue(),
            properties: fc.jsonValue(),
            publishedAtMs: fc.jsonValue(),
            busyCount: fc.oneof(fc.nat(), fc.jsonValue()),
            failedCount: fc.oneof(fc.nat(), fc.jsonValue()),
            isReplay: fc.oneof(fc.boolean(), fc.jsonValue()),
          },
          { requiredKeys: [] },
        )
        .map((fields) => JSON.stringify(fields)),
    );
    const answer = fc.oneof(
      anyReply,
      fc.tuple(
        fc.constantFrom('loaded', 'stale', 'committed', 'moved', 'known', 'old', 'marked', 'x'),
        anyReply,
        anyReply,
        anyReply,
        anyReply,
      ),
      fc.tuple(fc.integer({ min: -2 }), fc.string(), envelopeText, fc.constantFrom(0, 1)),
    );

    /** What is answered while it is opened is right, and then it is as it likes. */
    function liar(reply: unknown): { client: LyingClient; lie: () => void } {
      const client = new LyingClient(() => null);
      let isLying = false;
      client.evalsha = async () => {
        if (isLying && reply instanceof Error) throw reply;
        return isLying ? reply : null;
      };
      return {
        client,
        lie() {
          isLying = true;
        },
      };
    }

    /** Unreadable, or the client's own error, and nothing by accident. */
    async function outcomeOf<Answer>(reply: unknown, call: () => Promise<Answer>) {
      try {
        return await call();
      } catch (error) {
        if (error !== reply) expect((error as Error).name).toBe('UnreadableAnswerError');
        return null;
      }
    }

    const TOKEN = '7'.padStart(20, '0');
    const toCommit = fc.oneof(
      answer,
      answer.map((one) => [one]),
      fc.constantFrom(['committed'], [''], ['OK'], [TOKEN], [TOKEN.slice(1)], [`${TOKEN}0`]),
    );

    test('states', async () => {
      const property = fc.asyncProperty(toCommit, async (reply) => {
        const { client, lie } = liar(reply);
        const state = redisState(client as never);
        await state.open();
        lie();
        const loaded = await outcomeOf(reply, () => state.load('k', lease, [message]));
        if (loaded?.is === 'loaded') expect(loaded.version).toBeGreaterThanOrEqual(0);
        const messages = [message];
        const done = await outcomeOf(reply, () => state.commit({ ...commit, messages }));
        // Only what says so is a commit: a message is acknowledged for it.
        if (done?.is === 'committed') expect(reply).toEqual(['committed']);
        const elision = state.elision?.(redis(client as never)) as Elision;
        const seen = await outcomeOf(reply, () => elision.look('k', 'k', messages));
        if (seen?.is === 'seen') expect(seen.fence).toMatch(/^(\d{20})?$/);
        const elided = { ...commit, lockName: 'k', expectedFence: '', messages };
        const made = await outcomeOf(reply, () => elision.commit(elided));
        if (made?.is === 'committed') expect(reply).toEqual([TOKEN]);
        await outcomeOf(reply, () => state.markDead('k', messages));
        await outcomeOf(reply, () => state.peek('k'));
        await state.close();
      });
      await fc.assert(property, { numRuns: 1_000 });
    });

    test('outboxes', async () => {
      const property = fc.asyncProperty(answer, async (reply) => {
        const { client, lie } = liar(reply);
        const outbox = redisOutbox(client as never);
        await outbox.open();
        lie();
        const claimed = await outcomeOf(reply, () => outbox.claim(10, 1_000));
        for (const { envelope } of claimed?.deliveries ?? []) {
          expect(envelope.content).toBeInstanceOf(Uint8Array);
          expect(envelope.id === null || typeof envelope.id === 'string').toBe(true);
          expect(Number.isSafeInteger(envelope.busyCount + envelope.failedCount)).toBe(true);
        }
        if (claimed) expect(claimed.nextDueMs).not.toBeNaN();
        await outcomeOf(reply, () => outbox.depth());
        await outbox.close();
      });
      await fc.assert(property, { numRuns: 1_000 });
    });
  });

  test('to fenced reads and writes', async () => {
    const lease = { tokenText: '7'.padStart(20, '0') };
    const property = fc.asyncProperty(anyReply, async (reply) => {
      const client = new LyingClient(() => null);
      client.evalsha = async () => {
        if (reply instanceof Error) throw reply;
        return reply;
      };
      const values = fenced(client as never);
      const calls = [
        () => values.get('k', lease),
        () => values.set('k', 'v', lease),
        () => values.compareAndSet('k', 1, 'v', lease),
        () => values.run('return 1', ['k'], [], lease),
      ];
      for (const call of calls) {
        try {
          await call();
        } catch (error) {
          // The client's own error comes out as it is.
          if (error !== reply) expect(error).toBeInstanceOf(Error);
          if (!(error instanceof LeaseholdError) && error !== reply) {
            expect((error as Error).name).toBe('UnreadableAnswerError');
          }
        }
      }
    });
    await fc.assert(property, { numRuns: 300 });
  });
});

describe('messages', () => {
  const part = fc.oneof(fc.string(), fc.integer(), fc.constantFrom<unknown>(null, {}, [], true));
  const anyMessage = fc.oneof(
    fc.string(),
    fc.json(),
    fc
      .tuple(
        fc.constantFrom<unknown>('granted', 'wanted', 'lost', 'available', 'new', 1),
        fc.oneof(fc.constant('lock:k'), part),
        part,
        part,
        part,
      )
      .map((parts) => JSON.stringify(parts)),
    fc.constantFrom('', '[]', '["granted"]', '["granted","lock:k","o","-1",0]', '{"0":"granted"}'),
  );

  test.each(['redis', 'redlock'] as const)(
    'to a store on %s',
    { timeout: 60_000 },
    async (kind) => {
      const clients = [1, 2, 3].map(() => new LyingClient(() => 0));
      const store = kind === 'redis' ? redis(clients[0] as never) : redlock(clients as never);
      const events: { readonly is: string; readonly key?: string; readonly epoch?: bigint }[] = [];
      await store.open((event) => events.push(event));
      const listeners = clients.flatMap(({ subscribers }) => subscribers);
      expect(listeners).not.toEqual([]);
      fc.assert(
        fc.property(anyMessage, (text) => {
          for (const listener of listeners) listener.emit('message', 'channel', text);
        }),
        { numRuns: 2_000 },
      );
      for (const event of events) {
        expect(['granted', 'wanted', 'lost', 'available', 'reset']).toContain(event.is);
        if (event.is !== 'reset') expect(typeof event.key).toBe('string');
        if (event.is === 'granted') expect(event.epoch).toBeGreaterThanOrEqual(0n);
      }
      await store.close();
    },
  );
});
