/**
 * Workers on RabbitMQ and Redis while the engines fail under them, and while they themselves are stopped for too long.
 */
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { until } from '../servers/processes.ts';
import { TcpProxy } from '../servers/proxy.ts';
import { BROKER_START_MS, RabbitServer } from '../servers/rabbitmq.ts';
import { RedisServer, SentinelGroup } from '../servers/redis.ts';
import { lane, TOOLS } from '../servers/require.ts';
import { Books, type Order, WorkerProcess } from './consumer-workers.ts';

const TIMEOUT = { timeout: 150_000 };

lane('workers', TOOLS.rabbitmq, () => {
  let broker: RabbitServer;
  let redis: RedisServer;
  let workers: WorkerProcess[] = [];
  let queues = 0;

  beforeAll(async () => {
    [broker, redis] = await Promise.all([RabbitServer.start(), RedisServer.start()]);
  }, BROKER_START_MS);
  afterAll(() => Promise.all([broker?.close(), redis?.close()]));
  afterEach(async () => {
    await Promise.all(workers.map((worker) => worker.kill()));
    workers = [];
  });

  /** They are ready: of several that begin while messages are there, the first may have done all when the others come. */
  async function begin(order: Partial<Order>, count: number): Promise<WorkerProcess[]> {
    const whole = { amqp: broker.url, redisUrl: redis.url, queue: `q-${queues}`, ...order };
    const begun = Array.from({ length: count }, () => new WorkerProcess(whole));
    workers.push(...begun);
    await until('they are ready', () => begun.every(({ metrics }) => metrics !== null));
    return begun;
  }

  function newBooks(): Books {
    queues += 1;
    return new Books(`q-${queues}`, broker.url, () => redis.client());
  }

  async function end(books: Books): Promise<void> {
    await books.balance();
    await Promise.all(workers.map((worker) => worker.stop()));
    // None of them has ended before, by an error that nobody handled.
    expect(workers.map(({ exitCode }) => exitCode)).toEqual(workers.map(() => 0));
    await books.check();
  }

  function atWork(ofThem: readonly WorkerProcess[]): Promise<void> {
    const before = ofThem.map(({ batches }) => batches);
    return until('all are at work', () =>
      ofThem.every(({ batches }, index) => batches > (before[index] ?? 0)),
    );
  }

  test('the broker is killed, and comes back', TIMEOUT, async () => {
    const books = newBooks();
    const begun = await begin({ workMs: 30 }, 2);
    // Its queue of delays has been made and used: RabbitMQ 3.10 can leave one without a leader that was made just before.
    await books.publish(40);
    await books.balance();
    const working = atWork(begun);
    await books.publish(400);
    await working;
    await broker.kill();
    await broker.startAgain();
    await end(books);
  });

  test('connections are cut again and again, while handlers run', TIMEOUT, async () => {
    const books = newBooks();
    const proxy = await TcpProxy.start(broker.port);
    try {
      const begun = await begin({ amqp: `amqp://127.0.0.1:${proxy.port}`, workMs: 50 }, 2);
      const working = atWork(begun);
      await books.publish(200);
      await working;
      for (let cuts = 0; cuts < 4; cuts += 1) {
        const before = begun.map(({ batches }) => batches);
        // What there was may be done.
        const published = books.publish(200);
        await until('one has gone on', () =>
          begun.some(({ batches }, index) => batches > (before[index] ?? 0)),
        );
        proxy.cut();
        await published;
      }
      await books.balance();
      const gone = begun.reduce((sum, { metrics }) => sum + (metrics?.gone ?? 0), 0);
      // Handlers ran when their deliveries came again: the first run's effect counted, or the second's.
      expect(gone).toBeGreaterThan(0);
      await end(books);
    } finally {
      await proxy.close();
    }
  });

  test('a broker that hangs does not keep a process that is told to end', TIMEOUT, async () => {
    const books = newBooks();
    // After two of these without a word, the broker is taken for gone.
    const begun = await begin({ amqp: `${broker.url}?heartbeat=1`, workMs: 100 }, 1);
    const [worker] = begun;
    const working = atWork(begun);
    await books.publish(100);
    await working;
    broker.pause();
    try {
      await until('it has noticed', () => (worker?.metrics?.gone ?? 0) > 0);
      await worker?.stop();
      expect(worker?.exitCode).toBe(0);
    } finally {
      broker.resume();
    }
    await begin({}, 1);
    await end(books);
  });

  test.each([true, false])(
    'one is stopped in mid-batch past its ttl, and goes on as if nothing had been (locks elided: %s)',
    TIMEOUT,
    async (elideLock) => {
      const books = newBooks();
      const [slow] = (await begin({ ttlMs: 400, elideLock }, 1)) as [WorkerProcess];
      await slow.closeGate();
      const working = atWork([slow]);
      await books.publish(200);
      await working;
      slow.signal('SIGSTOP');
      const [other] = (await begin({ ttlMs: 400 }, 1)) as [WorkerProcess];
      // It works under the same keys, and has written behind the back of the first.
      await until('another one has them', () => (other.metrics?.applied ?? 0) > 50);
      slow.openGate();
      slow.signal('SIGCONT');
      await books.balance();
      await until('the first one has noticed', () => {
        const { setbacks, conflicts = 0 } = slow.metrics ?? {};
        const { stale = 0, lost = 0, moved = 0 } = setbacks ?? {};
        return (elideLock ? conflicts : stale + lost + moved) > 0;
      });
      await end(books);
    },
  );

  test.each([true, false])(
    'Redis fails over in mid-commit (locks elided: %s)',
    TIMEOUT,
    async (elideLock) => {
      const group = await SentinelGroup.start();
      try {
        queues += 1;
        const queue = `q-${queues}`;
        const master = await group.master();
        let current = master;
        const books = new Books(queue, broker.url, () => current.client());
        const order = { redisUrl: group.url, workMs: 30, minReplicas: 1, elideLock };
        const begun = await begin(order, 2);
        const working = atWork(begun);
        await books.publish(200);
        await working;
        await master.kill();
        await until('there is another master', async () => {
          current = await group.master();
          return current !== master;
        });
        await end(books);
      } finally {
        await Promise.all(workers.map((worker) => worker.kill()));
        await group.close();
      }
    },
  );
});
