/**
 * Replays of dead letters on RabbitMQ that a crash made incomplete: the copy was published, and the letter is still there.
 */
import { LockManager } from 'leasehold';
import { type Consumer, consume, retry } from 'leasehold/consumer';
import { deadLetters, publisher, rabbitmq } from 'leasehold/rabbitmq';
import { redis, redisState } from 'leasehold/redis';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { until } from '../servers/processes.ts';
import { TcpProxy } from '../servers/proxy.ts';
import { BROKER_START_MS, RabbitServer } from '../servers/rabbitmq.ts';
import { RedisServer } from '../servers/redis.ts';
import { lane, TOOLS } from '../servers/require.ts';

const PUBLISH = Buffer.from([0, 60, 0, 40]);
const WINDOW_MS = 2_000;

lane('replays', TOOLS.rabbitmq, () => {
  let broker: RabbitServer;
  let server: RedisServer;
  let proxy: TcpProxy;
  beforeAll(async () => {
    [broker, server] = await Promise.all([RabbitServer.start(), RedisServer.start()]);
    proxy = await TcpProxy.start(broker.port);
  }, BROKER_START_MS);
  afterAll(async () => {
    await proxy?.close();
    await Promise.all([broker?.close(), server?.close()]);
  });

  /** Adds up, once its handler has been mended. */
  class Adder {
    readonly locks = new LockManager({ store: redis(server.url) });
    readonly consumer: Consumer;
    isMended = false;

    constructor(queue: string) {
      this.consumer = consume<{ amount: number }, number>({
        source: rabbitmq({ url: broker.url, queue }),
        locks: this.locks,
        keyOf: () => queue,
        state: redisState(server.url, { windowMs: WINDOW_MS }),
        onFailed: retry({ maxAttempts: 1 }),
        reduce: (total, messages) => {
          if (!this.isMended) throw new Error('not mended yet');
          return messages.reduce((sum, { body }) => sum + body.amount, total ?? 0);
        },
      });
    }

    get applied(): number {
      return this.consumer.metrics().applied;
    }

    async close(): Promise<void> {
      await this.consumer.stop();
      await this.locks.close();
    }
  }

  async function peek(key: string): Promise<number> {
    const state = redisState(server.url);
    await state.open();
    const text = await state.peek(key);
    await state.close();
    return Number(text);
  }

  test.each(['within the window', 'after the window'])(
    'one that is made again %s is not applied twice',
    async (when) => {
      const isLate = when === 'after the window';
      const queue = `replays-${isLate}`;
      const producer = publisher({ url: broker.url, queue });
      await producer.publish({ id: 'a', content: '{ "amount": 5 }' });
      const adder = new Adder(queue);
      const letters = deadLetters({ url: broker.url, queue });
      const distant = deadLetters({ url: `amqp://127.0.0.1:${proxy.port}`, queue });
      const listed = (): Promise<string[]> =>
        letters
          .list(10)
          .then((all) => all.map(({ reason, envelope }) => `${envelope.id} ${reason}`));
      try {
        await until('it is dead', async () => (await listed()).join() === 'a failed');
        adder.isMended = true;

        // The second message that is published is the copy. Its confirm is lost, and the letter stays.
        let published = 0;
        const lost = proxy.loseReply((bytes) => {
          if (bytes.includes(PUBLISH)) published += 1;
          return published === 2;
        });
        await expect(distant.replay(() => true)).rejects.toMatchObject({ fault: 'unknown' });
        await lost;
        const beforeMs = Date.now();
        await until('the copy is applied', () => adder.applied === 1);
        await until(
          'the letter is still there',
          async () => (await listed()).join() === 'a failed',
        );

        if (isLate) {
          await until('ids may be forgotten', () => Date.now() - beforeMs > 2 * WINDOW_MS);
          // The next commit forgets them.
          await producer.publish({ id: 'b', content: '{ "amount": 7 }' });
          await until('another one is applied', () => adder.applied === 2);
        }
        const applied = adder.applied;
        expect(await letters.replay(() => true)).toBe(1);
        if (isLate) {
          // For a person, who can see that it was applied.
          await until('it is refused', async () => (await listed()).join() === 'a too-old');
        } else {
          await until('it is left out', () => adder.consumer.metrics().duplicates === 1);
          expect(await listed()).toEqual([]);
        }
        expect(adder.applied).toBe(applied);
        expect(await peek(queue)).toBe(isLate ? 12 : 5);
      } finally {
        await adder.close();
        await Promise.all([letters.close(), distant.close(), producer.close()]);
      }
    },
  );

  test('a replay finds what a list has just given back', async () => {
    const queue = 'replays-listed';
    const producer = publisher({ url: broker.url, queue });
    for (const id of ['a', 'b', 'c']) await producer.publish({ id, content: '{ "amount": 5 }' });
    const adder = new Adder(queue);
    const letters = deadLetters({ url: broker.url, queue });
    try {
      await until('all are dead', async () => (await letters.list(10)).length === 3);
      for (let round = 0; round < 20; round += 1) {
        expect(await letters.list(10)).toHaveLength(3);
        let seen = 0;
        await letters.replay(() => {
          seen += 1;
          return false;
        });
        expect(seen).toBe(3);
      }
    } finally {
      await adder.close();
      await Promise.all([letters.close(), producer.close()]);
    }
  });
});
