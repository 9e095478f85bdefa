/**
 * Workers and publishers on three nodes of RabbitMQ that keep copies of their quorum queue, while nodes are killed.
 */
import { publisher, rabbitmq } from 'leasehold/rabbitmq';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { until } from '../servers/processes.ts';
import { BROKER_START_MS, RabbitCluster } from '../servers/rabbitmq.ts';
import { RedisServer } from '../servers/redis.ts';
import { lane, TOOLS } from '../servers/require.ts';
import { Books, WorkerProcess } from './consumer-workers.ts';

const TIMEOUT = { timeout: 240_000 };

lane('a cluster of brokers', TOOLS.rabbitmq, () => {
  let cluster: RabbitCluster;
  let redis: RedisServer;
  let workers: WorkerProcess[] = [];
  beforeAll(async () => {
    [cluster, redis] = await Promise.all([RabbitCluster.start(3), RedisServer.start()]);
  }, BROKER_START_MS);
  afterAll(async () => {
    await Promise.all(workers.map((worker) => worker.kill()));
    await Promise.all([cluster?.close(), redis?.close()]);
  });

  test('the node that leads the queue is killed, and comes back', TIMEOUT, async () => {
    const queue = 'contributions';
    const [leader, other] = cluster.nodes;
    if (!leader || !other) throw new Error('there are no nodes');
    // A queue is led by the node where it was made; that is also the first one that workers connect to.
    const maker = rabbitmq({ url: leader.url, queue });
    await maker.open({ delivered() {}, failed() {} });
    await maker.close();

    const books = new Books(queue, other.url, () => redis.client());
    const order = { amqp: cluster.urls, redisUrl: redis.url, queue, workMs: 30 };
    workers = [new WorkerProcess(order), new WorkerProcess(order)];
    await until('they are ready', () => workers.every(({ metrics }) => metrics !== null));
    // Queues of delays are made and used, before there is a node less.
    await books.publish(40);
    await books.balance();

    // There is work until both have begun some.
    const goOn = (): Promise<void> => {
      const before = workers.map(({ batches }) => batches);
      return until('both go on', async () => {
        await books.publish(40);
        return workers.every(({ batches }, index) => batches > (before[index] ?? 0));
      });
    };
    await books.publish(400);
    await goOn();
    await leader.kill();
    // Two of three are enough.
    await goOn();
    await leader.startAgain();
    await books.publish(40);
    await books.balance();
    await Promise.all(workers.map((worker) => worker.stop()));
    expect(workers.map(({ exitCode }) => exitCode)).toEqual([0, 0]);
    await books.check();
  });

  test(
    'a publisher that met a queue without a leader goes on when it has one',
    TIMEOUT,
    async () => {
      const [first, second, third] = cluster.nodes;
      if (!first || !second || !third) throw new Error('there are no nodes');
      const queue = 'leaderless';
      const message = { id: 'm-1', content: '{}', key: 'k' };
      // Led by the first node, to begin with.
      const maker = publisher({ url: first.url, queue });
      await maker.publish(message);
      await maker.close();
      await Promise.all([first.kill(), third.kill()]);
      const publishing = publisher({ url: second.url, queue });
      try {
        const isRefused = (): Promise<boolean> =>
          publishing.publish(message).then(
            () => false,
            ({ fault }) => fault === 'refused',
          );
        await until('it is refused', isRefused);
        await third.startAgain();
        await until('it is published', () => publishing.publish(message).then(() => true));
      } finally {
        await publishing.close();
      }
    },
  );
});
