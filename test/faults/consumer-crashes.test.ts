/**
 * Workers that are killed at every point between two engines, with keys that are free and with keys that others hold. The
 * next one finds what they left.
 */
import { type LeaseStore, LockManager } from 'leasehold';
import { embedded } from 'leasehold/embedded';
import { redis } from 'leasehold/redis';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { removeFolder, temporaryFolder, until } from '../servers/processes.ts';
import { BROKER_START_MS, RabbitServer } from '../servers/rabbitmq.ts';
import { RedisServer } from '../servers/redis.ts';
import { lane, TOOLS } from '../servers/require.ts';
import {
  type Bookkeeping,
  Books,
  type CrashPoint,
  FolderBooks,
  type Order,
  WorkerProcess,
} from './consumer-workers.ts';

const TIMEOUT = { timeout: 150_000 };
const POINTS: readonly CrashPoint[] = [
  'after commit',
  'in mid-batch',
  'after publish',
  'after confirm',
  'after marking as dead',
  'after dead-lettering',
];
const UNDER_A_LOCK: readonly CrashPoint[] = ['after commit', 'in mid-batch'];
const BUSY_POINTS: readonly CrashPoint[] = ['after publish', 'after confirm'];
const OUTBOX_POINTS: readonly CrashPoint[] = [
  'after putting',
  'after claiming',
  'after putting back',
  'before removing',
];
/** Points at which a second copy of a message is safe already: the next worker meets it. */
const MAKES_COPIES: ReadonlySet<CrashPoint> = new Set([
  'after commit',
  'after confirm',
  'after putting',
  'before removing',
]);

/** Those of a test that failed may still be there at the end. */
const workers: WorkerProcess[] = [];
afterAll(() => Promise.all(workers.map((worker) => worker.kill())));

function begin(order: Order): WorkerProcess {
  const worker = new WorkerProcess(order);
  workers.push(worker);
  return worker;
}

/** Another worker comes, and puts everything in order. */
async function succeed(books: Bookkeeping, order: Order, point: CrashPoint): Promise<void> {
  const next = begin(order);
  await books.balance();
  await next.stop();
  expect(next.exitCode).toBe(0);
  if (MAKES_COPIES.has(point)) expect(next.metrics?.duplicates).toBeGreaterThan(0);
  await books.check();
}

async function expectKilled(worker: WorkerProcess): Promise<void> {
  await worker.exited;
  expect(worker.wasKilled).toBe(true);
}

/** While it runs, every key is somebody else's. */
async function whileBusy(
  books: Bookkeeping,
  store: LeaseStore,
  work: (free: () => Promise<void>) => Promise<void>,
): Promise<void> {
  const locks = new LockManager({ store });
  try {
    const held = await locks.acquire([...books.accounts]);
    await work(() => held.release());
  } finally {
    await locks.close();
  }
}

lane('workers killed', TOOLS.rabbitmq, () => {
  let broker: RabbitServer;
  let server: RedisServer;
  let queues = 0;
  beforeAll(async () => {
    [broker, server] = await Promise.all([RabbitServer.start(), RedisServer.start()]);
  }, BROKER_START_MS);
  afterAll(() => Promise.all([broker?.close(), server?.close()]));

  function setUp(): { books: Books; order: Order; store: () => LeaseStore } {
    queues += 1;
    const queue = `crash-${queues}`;
    return {
      books: new Books(queue, broker.url, () => server.client()),
      order: { amqp: broker.url, redisUrl: server.url, queue },
      store: () => redis(server.url, { prefix: `${queue}-lock:` }),
    };
  }

  async function dieAt(point: CrashPoint, more: Partial<Order>): Promise<void> {
    const { books, order } = setUp();
    await books.publish(100);
    await expectKilled(begin({ ...order, ...more, crash: { point, times: 2 } }));
    await succeed(books, order, point);
  }

  // Side by side, each on a queue of its own: most of their time goes by while a delay queue grows up.
  test.concurrent.each(POINTS)('%s: every message is accounted for', TIMEOUT, (point) =>
    dieAt(point, {}),
  );

  test.concurrent.each(UNDER_A_LOCK)(
    'under a lock, %s: every message is accounted for',
    TIMEOUT,
    (point) => dieAt(point, { elideLock: false }),
  );

  test.concurrent.each(BUSY_POINTS)(
    'busy, %s: every message is accounted for',
    TIMEOUT,
    async (point) => {
      const { books, order, store } = setUp();
      await books.publish(100);
      await whileBusy(books, store(), () =>
        expectKilled(begin({ ...order, waitMs: 50, crash: { point, times: 3 } })),
      );
      await succeed(books, order, point);
    },
  );

  test.each(OUTBOX_POINTS)(
    'an outbox on Redis, %s: every message is accounted for',
    TIMEOUT,
    async (point) => {
      const { books, order, store } = setUp();
      await drainAndDie(books, order, store(), point);
    },
  );
});

test.each(OUTBOX_POINTS)(
  'an outbox in a folder, %s: every message is accounted for',
  TIMEOUT,
  async (point) => {
    const folder = temporaryFolder();
    try {
      const queue = 'contributions';
      const books = new FolderBooks(queue, folder);
      await drainAndDie(books, { folder, queue }, embedded({ path: folder }), point);
    } finally {
      removeFolder(folder);
    }
  },
);

async function drainAndDie(
  books: Bookkeeping,
  order: Order,
  store: LeaseStore,
  point: CrashPoint,
): Promise<void> {
  await books.publish(100);
  const outbox = { ...order, waitMs: 50, outboxLeaseMs: 1_500 };
  await whileBusy(books, store, async (free) => {
    const doomed = begin({ ...outbox, crash: { point, times: 3 } });
    if (point === 'before removing') {
      await until('much is in the outbox', () => (doomed.metrics?.busyDeferred ?? 0) >= 50);
      await free();
    }
    await expectKilled(doomed);
  });
  await succeed(books, outbox, point);
}
