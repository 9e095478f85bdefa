/**
 * A partitioned queue on a real broker, with and without the exchange that hashes: keys stay together, one process at a
 * time reads each partition, and partitions move when processes come and go.
 */
import type { MessageSource } from 'leasehold/consumer';
import { partitioned, publisher, rabbitmq } from 'leasehold/rabbitmq';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { until } from '../servers/processes.ts';
import { BROKER_START_MS, RabbitServer } from '../servers/rabbitmq.ts';
import { lane, TOOLS } from '../servers/require.ts';

const COUNT = 4;
const KEYS = Array.from({ length: 40 }, (_, index) => `key-${index}`);

for (const hasHashExchange of [false, true]) {
  lane(hasHashExchange ? 'the broker hashes' : 'the publisher hashes', TOOLS.rabbitmq, () => {
    let server: RabbitServer;
    beforeAll(async () => {
      server = await RabbitServer.start({ hasHashExchange });
    }, BROKER_START_MS);
    afterAll(() => server?.close());

    test('keys settle on sources, and move when sources come and go', async () => {
      const queue = partitioned('q', COUNT);
      const producer = publisher({ url: server.url, queue });
      /** By key: where its messages were, and who has got the last one. */
      const queuesOf = new Map<string, Set<unknown>>();
      const readerOf = new Map<string, string>();
      let delivered = 0;
      const open = async (name: string): Promise<MessageSource> => {
        const source = rabbitmq({ url: server.url, queue });
        await source.open({
          delivered(delivery) {
            const { content, properties } = delivery.envelope;
            const key = Buffer.from(content).toString();
            queuesOf.set(key, (queuesOf.get(key) ?? new Set()).add(properties['queue']));
            readerOf.set(key, name);
            delivered += 1;
            void source.acknowledge([delivery]);
          },
          failed() {},
        });
        return source;
      };
      const round = async (): Promise<string[]> => {
        const before = delivered;
        for (const key of KEYS) await producer.publish({ content: key, key });
        await until('all are delivered', () => delivered === before + KEYS.length);
        return [...new Set(readerOf.values())].toSorted((a, b) => a.localeCompare(b));
      };

      await expect(producer.publish({ content: '' })).rejects.toMatchObject({
        code: 'INVALID_ARGUMENT',
      });
      const first = await open('first');
      expect(await round()).toEqual(['first']);
      const used = new Set([...queuesOf.values()].flatMap((names) => [...names]));
      expect(used.size).toBeGreaterThan(1);

      const second = await open('second');
      const partitionsOf = (name: string): Set<unknown> =>
        new Set(
          [...readerOf]
            .filter(([, reader]) => reader === name)
            .flatMap(([key]) => [...(queuesOf.get(key) ?? [])]),
        );
      await until('the second one has its share', async () => {
        await round();
        return partitionsOf('first').size <= COUNT / 2 && partitionsOf('second').size > 0;
      });
      // A key has always been in one queue.
      expect([...queuesOf.values()].every((names) => names.size === 1)).toBe(true);

      await first.stop();
      await first.close();
      await until('the second one has all', async () => (await round()).join() === 'second');
      await second.close();
      await producer.close();
    });
  });
}
