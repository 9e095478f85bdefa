/**
 * Actors on RabbitMQ and Redis: partitions of a queue, one active process for each, with the states in its memory. Two
 * processes may take themselves for the owner of a key for a while; only one of them ever commits.
 */
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { until } from '../servers/processes.ts';
import { BROKER_START_MS, RabbitServer } from '../servers/rabbitmq.ts';
import { RedisServer } from '../servers/redis.ts';
import { lane, TOOLS } from '../servers/require.ts';
import { Books, type Order, WorkerProcess } from './consumer-workers.ts';

const TIMEOUT = { timeout: 150_000 };
const PARTITIONS = 4;
/** So soon the broker takes a process that is stopped for gone, at the earliest: after two heartbeats. */
const HEARTBEAT_S = 1;

lane('actors', TOOLS.rabbitmq, () => {
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

  function newBooks(): Books {
    queues += 1;
    return new Books(`actors-${queues}`, broker.url, () => redis.client(), PARTITIONS);
  }

  function begin(order: Partial<Order> = {}): WorkerProcess {
    const worker = new WorkerProcess({
      amqp: `${broker.url}?heartbeat=${HEARTBEAT_S}`,
      redisUrl: redis.url,
      queue: `actors-${queues}`,
      partitions: PARTITIONS,
      keepState: true,
      ttlMs: 600,
      ...order,
    });
    workers.push(worker);
    return worker;
  }

  async function end(books: Books, ofThem: readonly WorkerProcess[]): Promise<void> {
    await books.balance();
    await Promise.all(ofThem.map((worker) => worker.stop()));
    expect(ofThem.map(({ exitCode }) => exitCode)).toEqual(ofThem.map(() => 0));
    await books.check();
  }

  /** Whoever owns a key keeps its lock until another one wants it; or nobody ever has it. */
  const ways = [
    { way: 'with their locks', retainMs: 60_000 },
    { way: 'without locks', retainMs: 0 },
  ];

  test.each(ways)(
    'one that is stopped with states in its memory is succeeded, and what it commits then is refused, $way',
    TIMEOUT,
    async ({ retainMs }) => {
      const books = newBooks();
      const first = begin({ retainMs });
      for (let round = 0; round < 3; round += 1) {
        await books.publish(40);
        await books.balance();
      }
      // It has loaded each state once, and goes on from its memory.
      await until('states are kept', () => (first.metrics?.kept ?? 0) > 0);
      await first.closeGate();
      const before = first.batches;
      const kept = first.metrics?.kept ?? 0;
      await books.publish(40);
      await until('it has states in its hands', () => first.batches > before);
      expect(first.metrics?.setbacks).toMatchObject({ stale: 0, lost: 0 });
      first.signal('SIGSTOP');
      const second = begin({ retainMs });
      // All of it: also what the first one was about to commit.
      await books.balance();
      expect(second.metrics?.applied).toBeGreaterThan(0);
      first.openGate();
      first.signal('SIGCONT');
      await until('it has noticed', () => {
        const { setbacks, conflicts = 0 } = first.metrics ?? {};
        return (retainMs > 0 ? (setbacks?.stale ?? 0) : conflicts) > 0;
      });
      // Nothing of what it had in its hands was counted, and nothing went on from its memory.
      expect(first.metrics?.kept).toBe(kept);
      await books.publish(40);
      await end(books, [first, second]);
    },
  );

  test.each(ways)(
    'processes come, go, die and stop for a while, and the totals are exact, $way',
    TIMEOUT,
    async ({ retainMs }) => {
      const books = newBooks();
      const goOn = async (): Promise<void> => {
        const applied = (): number =>
          workers.reduce((sum, { metrics }) => sum + (metrics?.applied ?? 0), 0);
        const before = applied();
        await books.publish(80);
        await until('some were applied', () => applied() > before);
      };
      const one = begin({ retainMs });
      await goOn();
      const two = begin({ retainMs });
      await goOn();
      one.signal('SIGSTOP');
      const three = begin({ retainMs });
      await goOn();
      await two.kill();
      await goOn();
      one.signal('SIGCONT');
      await goOn();
      await three.stop();
      expect(three.exitCode).toBe(0);
      const four = begin({ retainMs });
      await goOn();
      await end(books, [one, four]);
    },
  );
});
