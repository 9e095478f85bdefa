/**
 * Workers on RabbitMQ and Redis that are killed at every point between two engines. The next one finds what they left.
 */
import { afterAll, beforeAll, expect, test } from 'vitest';
import { BROKER_START_MS, RabbitServer } from '../servers/rabbitmq.ts';
import { RedisServer } from '../servers/redis.ts';
import { lane, TOOLS } from '../servers/require.ts';
import { Books, type CrashPoint, WorkerProcess } from './consumer-workers.ts';

const POINTS: readonly CrashPoint[] = [
  'after commit',
  'in mid-batch',
  'after publish',
  'after confirm',
  'after marking as dead',
  'after dead-lettering',
];

lane('workers killed', TOOLS.rabbitmq, () => {
  let broker: RabbitServer;
  let redis: RedisServer;
  beforeAll(async () => {
    [broker, redis] = await Promise.all([RabbitServer.start(), RedisServer.start()]);
  }, BROKER_START_MS);
  afterAll(() => Promise.all([broker?.close(), redis?.close()]));

  test.each(POINTS)('%s: every message is accounted for', { timeout: 120_000 }, async (point) => {
    const queue = `crash-${POINTS.indexOf(point)}`;
    const books = new Books(queue, broker.url, () => redis.client());
    await books.publish(100);
    const order = { amqp: broker.url, redisUrl: redis.url, queue };
    const doomed = new WorkerProcess({ ...order, crash: { point, times: 2 } });
    await doomed.exited;
    expect(doomed.wasKilled).toBe(true);
    const next = new WorkerProcess(order);
    try {
      await books.balance();
      expect(next.metrics?.redelivered).toBeGreaterThan(0);
      await next.stop();
      expect(next.exitCode).toBe(0);
    } finally {
      await next.kill();
    }
    await books.check();
  });
});
