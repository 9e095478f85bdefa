/**
 * The source on a real broker, and what goes wrong there: lost connections, confirms and acknowledgements, queues that
 * are deleted or declared otherwise, and each setting of the queues without which messages would be lost.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { Socket } from 'node:net';
import { inspect } from 'node:util';
import { type Channel, type ChannelModel, connect } from 'amqplib';
import { LockManager } from 'leasehold';
import { consume, type Delivery, type Envelope, type MessageSource } from 'leasehold/consumer';
import { memory, memoryState } from 'leasehold/memory';
import {
  BrokerUnavailableError,
  deadLetters,
  NotPublishedError,
  publisher,
  QueueUnusableError,
  type RabbitSourceOptions,
  rabbitmq,
} from 'leasehold/rabbitmq';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest';
import { until } from '../servers/processes.ts';
import { TcpProxy } from '../servers/proxy.ts';
import { BROKER_START_MS, RabbitServer } from '../servers/rabbitmq.ts';
import { lane, TOOLS } from '../servers/require.ts';

const PUBLISH = Buffer.from([0, 60, 0, 40]);
const ACKNOWLEDGE = Buffer.from([0, 60, 0, 80]);
/** Bytes of two acknowledgements. */
const TWO_FRAMES = 42;
const CLOSE_CHANNEL = Buffer.from([0, 20, 0, 40]);
/** For what must not happen: long enough for the broker to do it. */
const A_WHILE_MS = 150;

lane('RabbitMQ', TOOLS.rabbitmq, () => {
  let server: RabbitServer;
  let proxy: TcpProxy;
  /** The test's own connection, past the proxy. */
  let connection: ChannelModel;
  let channel: Channel;
  let queue: string;
  let queues = 0;
  const open: { close(): Promise<unknown> }[] = [];

  beforeAll(async () => {
    server = await RabbitServer.start();
  }, BROKER_START_MS);
  afterAll(() => server?.close());

  beforeEach(async () => {
    queues += 1;
    queue = `q-${queues}`;
    proxy = await TcpProxy.start(server.port);
    connection = await connect(server.url);
    connection.on('error', () => {});
    channel = await connection.createChannel();
    channel.on('error', () => {});
  });
  afterEach(async () => {
    proxy.forward();
    for (const one of open.splice(0).reverse()) await one.close();
    await connection.close().catch(() => {});
    await proxy.close();
  });

  function keep<One extends { close(): Promise<unknown> }>(one: One): One {
    open.push(one);
    return one;
  }

  const proxied = (): string => `amqp://127.0.0.1:${proxy.port}`;

  class Reader {
    readonly source: MessageSource;
    readonly deliveries: Delivery[] = [];
    readonly failures: Error[] = [];

    constructor(options: Partial<RabbitSourceOptions> = {}) {
      this.source = keep(rabbitmq({ url: proxied(), queue, ...options }));
    }

    get ids(): (string | null)[] {
      return this.deliveries.map(({ envelope }) => envelope.id);
    }

    async open(): Promise<this> {
      await this.source.open({
        delivered: (delivery) => void this.deliveries.push(delivery),
        failed: (error) => void this.failures.push(error),
      });
      return this;
    }

    async has(count: number): Promise<readonly Delivery[]> {
      await until(`${count} deliveries are here`, () => this.deliveries.length >= count);
      return this.deliveries;
    }
  }

  async function publish(...ids: readonly string[]): Promise<void> {
    const producer = publisher({ url: server.url, queue });
    for (const id of ids) await producer.publish({ id, content: '{}' });
    await producer.close();
  }

  async function isThere(name: string): Promise<boolean> {
    const look = await connection.createChannel();
    look.on('error', () => {});
    try {
      await look.checkQueue(name);
      await look.close();
      return true;
    } catch {
      return false;
    }
  }

  function envelopeOf(delivery: Delivery | undefined): Envelope {
    if (!delivery) throw new Error('there is no delivery');
    return delivery.envelope;
  }

  describe('publishing', () => {
    test('a message that no queue takes counts as not published', async () => {
      const producer = keep(publisher({ url: server.url, queue }));
      await producer.publish({ content: '1' });
      await channel.deleteQueue(queue);
      const failed = producer.publish({ content: '2' });
      await expect(failed).rejects.toBeInstanceOf(NotPublishedError);
      await expect(failed).rejects.toMatchObject({
        code: 'NOT_PUBLISHED',
        fault: 'returned',
        queue,
      });
    });

    test('a message that the queue refuses counts as not published', async () => {
      const source = rabbitmq({ url: server.url, queue });
      await source.open({ delivered() {}, failed() {} });
      await source.close();
      const policy = JSON.stringify({ 'max-length': 1 });
      await server.control('set_policy', 'full', `^${queue}$`, policy);
      const producer = keep(publisher({ url: server.url, queue }));
      const refused = async (): Promise<boolean> =>
        producer.publish({ content: '1' }).then(
          () => false,
          (error: unknown) => (error as NotPublishedError).fault === 'refused',
        );
      await until('the queue is full', refused);
      await server.control('clear_policy', 'full');
    });

    test('when the confirm is lost, nobody knows; the message is there, and again when repeated', async () => {
      const reader = await new Reader({ url: server.url }).open();
      const producer = keep(publisher({ url: proxied(), queue }));
      await producer.publish({ id: 'a', content: '{}' });
      const lost = proxy.loseReply((bytes) => bytes.includes(PUBLISH));
      const failed = producer.publish({ id: 'b', content: '{}' });
      await expect(failed).rejects.toMatchObject({ fault: 'unknown' });
      await lost;
      await reader.has(2);
      // Over a new connection.
      await producer.publish({ id: 'b', content: '{}' });
      await reader.has(3);
      expect(reader.ids).toEqual(['a', 'b', 'b']);
    });

    test('a connection that is lost while a channel of it is being closed keeps nobody', async () => {
      const producer = keep(publisher({ url: proxied(), queue }));
      const lost = proxy.loseReply((bytes) => bytes.includes(CLOSE_CHANNEL));
      const first = producer.publish({ content: '1' });
      await lost;
      await expect(first).rejects.toMatchObject({ fault: 'unavailable' });
      await producer.publish({ content: '2' });
      expect((await channel.checkQueue(queue)).messageCount).toBe(1);
    });

    test('nor does one that is lost when a queue of delays has just been made', async () => {
      await publish('a');
      const reader = await new Reader().open();
      const [delivery] = await reader.has(1);
      // The publisher's connection is there, and has one queue of delays already.
      await reader.source.republish([envelopeOf(delivery)], 60_000);
      const lost = proxy.loseReply((bytes) => bytes.includes(CLOSE_CHANNEL));
      const second = reader.source.republish([envelopeOf(delivery)], 600_000);
      await lost;
      // Over a new connection.
      await second;
    });

    test('after a confirm that did not come, the next message takes another connection', async () => {
      const producer = keep(publisher({ url: proxied(), queue, confirmTimeoutMs: 3_000 }));
      await producer.publish({ content: '1' });
      proxy.blackholeSome(() => true);
      await expect(producer.publish({ content: '2' })).rejects.toMatchObject({ fault: 'unknown' });
      await producer.publish({ content: '3' });
      proxy.forward();
      await until('the silent connection is closed', () => proxy.open === 1);
    });

    test('those that publish when a connection was lost share the next one', async () => {
      const producer = keep(publisher({ url: proxied(), queue }));
      await producer.publish({ content: '1' });
      const cut = Array.from({ length: 5 }, () => producer.publish({ content: '2' }));
      proxy.cut();
      await Promise.allSettled(cut);
      const before = proxy.connections;
      await Promise.all(Array.from({ length: 5 }, () => producer.publish({ content: '3' })));
      expect(proxy.connections - before).toBe(1);
    });

    test('a broker that hangs confirms nothing, and it is said in time', async () => {
      const timeouts = { confirmTimeoutMs: 300, connectTimeoutMs: 300 };
      const producer = keep(publisher({ url: proxied(), queue, ...timeouts }));
      // A broker that is only slow is late for these, too.
      await until('it is connected', () => producer.publish({ content: '{}' }).then(() => true));
      proxy.blackhole();
      const failed = producer.publish({ id: 'b', content: '{}' });
      await expect(failed).rejects.toMatchObject({ fault: 'unknown' });
      // Only so many may wait for it.
      const all = Array.from({ length: 11_001 }, () => producer.publish({ content: '{}' }));
      const outcomes = await Promise.allSettled(all);
      const faults = outcomes.map((one) =>
        one.status === 'rejected' ? (one.reason as NotPublishedError).fault : 'published',
      );
      expect(faults.filter((fault) => fault === 'overloaded')).toHaveLength(1);
      expect(faults.at(-1)).toBe('overloaded');
      expect(faults).not.toContain('published');
    });

    test('nor does it keep a process that closes its publisher', async () => {
      const program = `
        import { publisher } from 'leasehold/rabbitmq';
        const { BROKER: url } = process.env;
        const producer = publisher({ url, queue: 'q', confirmTimeoutMs: 3000, connectTimeoutMs: 3000 });
        await producer.publish({ content: '1' });
        process.send('published');
        await new Promise((resolve) => process.once('message', resolve));
        await producer.publish({ content: '2' }).catch(() => {});
        await producer.close();
        process.disconnect();`;
      // A silent connection would be noticed after hours.
      const env = { ...process.env, BROKER: `${proxied()}?heartbeat=3600` };
      const args = ['--input-type=module', '--eval', program];
      const child = spawn(process.execPath, args, {
        env,
        stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
      });
      try {
        const [said] = await Promise.race([once(child, 'message'), once(child, 'exit')]);
        expect(said).toBe('published');
        proxy.blackhole();
        child.send('go on');
        await until('it has ended', () => child.exitCode !== null);
        expect(child.exitCode).toBe(0);
      } finally {
        child.kill('SIGKILL');
      }
    });

    test('while the broker is short of memory, acknowledgements go through and free it', async () => {
      await publish('a', 'b', 'c');
      const reader = await new Reader({ prefetch: 1, confirmTimeoutMs: 3_000 }).open();
      const [first] = await reader.has(1);
      // The connection that publishes is there, and gets blocked.
      await reader.source.deadLetter([envelopeOf(first)], { reason: 'failed', detail: 'no' });
      await server.control('set_vm_memory_high_watermark', '0.0000001');
      try {
        const copy = { ...envelopeOf(first), id: 'copy' };
        const isBlocked = (): Promise<boolean> =>
          reader.source.deadLetter([copy], { reason: 'failed', detail: 'no' }).then(
            () => false,
            () => true,
          );
        await until('publishing is blocked', isBlocked);
        for (let count = 1; count <= 2; count += 1) {
          await reader.source.acknowledge(reader.deliveries.slice(-1));
          await reader.has(count + 1);
        }
        expect(reader.ids).toEqual(['a', 'b', 'c']);
      } finally {
        await server.control('set_vm_memory_high_watermark', '0.6');
      }
    });
  });

  describe('settling', () => {
    test('a lost acknowledgement means that the message comes again', async () => {
      await publish('a', 'b');
      const reader = await new Reader().open();
      const deliveries = [...(await reader.has(2))];
      proxy.blackhole('requests');
      await reader.source.acknowledge(deliveries);
      proxy.refuse();
      await until('the connection is lost', () => deliveries.every((one) => !one.isLive()));
      proxy.forward();
      await reader.has(4);
      expect(reader.ids).toEqual(['a', 'b', 'a', 'b']);
      expect(reader.deliveries.slice(2).every((one) => one.isRedelivered)).toBe(true);
    });

    test('what is acknowledged in one turn is one frame, as far as the order allows', async () => {
      await publish(...Array.from({ length: 20 }, (_, index) => `m-${index}`));
      const reader = await new Reader().open();
      const deliveries = [...(await reader.has(20))];
      let frames = 0;
      const count = (bytes: Buffer): boolean => {
        for (
          let at = bytes.indexOf(ACKNOWLEDGE);
          at !== -1;
          at = bytes.indexOf(ACKNOWLEDGE, at + 1)
        ) {
          frames += 1;
        }
        return false;
      };
      void proxy.loseReply(count);
      const alone = vi.spyOn(Socket.prototype, '_write');
      const [first, ...others] = deliveries.slice(0, 10) as [Delivery, ...Delivery[]];
      await reader.source.acknowledge(others.slice(0, 3));
      await until('there is a frame for each', () => frames === 3);
      // All of them were given to the system together.
      const single = alone.mock.calls.filter(
        ([chunk]) =>
          chunk instanceof Buffer && chunk.length < TWO_FRAMES && chunk.includes(ACKNOWLEDGE),
      );
      alone.mockRestore();
      expect(single).toEqual([]);
      // The gap is closed: from here on one frame is enough.
      void reader.source.acknowledge(others.slice(3));
      await reader.source.acknowledge([first, ...deliveries.slice(10)]);
      await until('there is one more', () => frames === 4);
      await reader.source.close();
      expect(frames).toBe(4);
      expect((await channel.checkQueue(queue)).messageCount).toBe(0);
    });
  });

  describe('opening', () => {
    /** Longer than any test: whoever waits for it where it must not is seen. */
    const FOR_EVER_MS = 86_400_000;

    test('a broker that comes up late is waited for', { timeout: BROKER_START_MS }, async () => {
      await server.kill();
      const early = new Reader({ url: server.url, openTimeoutMs: FOR_EVER_MS });
      const opening = early.open();
      for (const openTimeoutMs of [0, 200]) {
        const failed = new Reader({ url: server.url, openTimeoutMs }).open();
        await expect(failed).rejects.toBeInstanceOf(BrokerUnavailableError);
        await expect(failed).rejects.toMatchObject({
          code: 'BROKER_UNAVAILABLE',
          fault: 'unreachable',
          hosts: [`127.0.0.1:${server.port}`],
          cause: { code: 'ECONNREFUSED' },
        });
      }
      const letters = keep(deadLetters({ url: server.url, queue }));
      await expect(letters.list(1)).rejects.toMatchObject({ fault: 'unreachable' });
      const producer = keep(publisher({ url: server.url, queue }));
      const unsent = producer.publish({ content: '{}' });
      await expect(unsent).rejects.toMatchObject({
        code: 'NOT_PUBLISHED',
        fault: 'unavailable',
        cause: { code: 'BROKER_UNAVAILABLE' },
      });
      await server.startAgain();
      await opening;
      await publish('a');
      await early.has(1);
      expect(early.failures).toEqual([]);
    });

    test('a broker that refuses is not waited for, and no secret is told', async () => {
      const host = `127.0.0.1:${server.port}`;
      const refused = [`amqp://maria:Passw0rd@${host}`, `amqp://guest:guest@${host}/elsewhere`];
      for (const url of [...refused, [...refused, 'amqp://guest:guest@127.0.0.1:1']]) {
        const failed = new Reader({ url, openTimeoutMs: FOR_EVER_MS }).open();
        const error: unknown = await failed.catch((cause: unknown) => cause);
        expect(error).toMatchObject({ code: 'BROKER_UNAVAILABLE', fault: 'refused' });
        expect(inspect(error, { depth: null })).not.toMatch(/maria|Passw0rd|guest/);
      }
    });

    test('a consumer that waits for its broker can be stopped', async () => {
      proxy.refuse();
      const locks = keep(new LockManager({ store: memory() }));
      const consumer = consume<{ key: string }, number>({
        source: rabbitmq({ url: proxied(), queue, openTimeoutMs: FOR_EVER_MS }),
        locks,
        keyOf: ({ body }) => body.key,
        state: memoryState(),
        reduce: (count, messages) => (count ?? 0) + messages.length,
      });
      let failure: Error | null = null;
      void consumer.failed.then((error) => {
        failure = error;
      });
      await consumer.stop();
      await expect(consumer.ready).rejects.toThrow();
      expect(failure).toBeNull();
    });
  });

  describe('queues', () => {
    test('one that is deleted is made again, and the source goes on', async () => {
      const reader = await new Reader().open();
      await channel.deleteQueue(queue);
      await until('it is there again', () => isThere(queue));
      await publish('a');
      await reader.has(1);
      expect(reader.failures).toEqual([]);
    });

    test('without declare, one that is missing is an error that says so, at once and later', async () => {
      const early = new Reader({ declare: false });
      const failed = early.open();
      await expect(failed).rejects.toBeInstanceOf(QueueUnusableError);
      await expect(failed).rejects.toMatchObject({ queue, fault: 'missing' });

      await publish('a');
      const late = await new Reader({ declare: false }).open();
      const [delivery] = await late.has(1);
      await channel.deleteQueue(queue);
      await until('it is reported', () => late.failures.length > 0);
      expect(late.failures).toHaveLength(1);
      expect(late.failures[0]).toMatchObject({ code: 'QUEUE_UNUSABLE', queue, fault: 'missing' });
      expect(delivery?.isLive()).toBe(false);
    });

    test('one that was declared otherwise is an error that says so, at once and later', async () => {
      const reader = await new Reader().open();
      proxy.refuse();
      await until(
        'the source is away',
        async () => (await channel.checkQueue(queue)).consumerCount === 0,
      );
      await channel.deleteQueue(queue);
      await channel.assertQueue(queue, { durable: true });
      proxy.forward();
      await until('it is reported', () => reader.failures.length > 0);
      expect(reader.failures[0]).toMatchObject({ code: 'QUEUE_UNUSABLE', queue, fault: 'differs' });
      await expect(new Reader().open()).rejects.toMatchObject({ queue, fault: 'differs' });
      const producer = keep(publisher({ url: server.url, queue }));
      await expect(producer.publish({ content: '' })).rejects.toMatchObject({ fault: 'differs' });
    });

    test('what the broker itself gives up on is among the dead letters', async () => {
      await publish('a');
      const message = await channel.get(queue);
      if (message === false) throw new Error('it is not there');
      channel.nack(message, false, false);
      const letters = keep(deadLetters({ url: server.url, queue }));
      await until('it is listed', async () => (await letters.list(10)).length === 1);
      const [letter] = await letters.list(10);
      expect(letter).toMatchObject({ reason: 'failed', envelope: { id: 'a' } });
      expect(letter?.detail).toMatch(/by the broker.*rejected/);
      expect(await letters.replay(() => true)).toBe(1);
      const reader = await new Reader().open();
      const [delivery] = await reader.has(1);
      expect(envelopeOf(delivery)).toMatchObject({ id: 'a', isReplay: true, headers: {} });
    });
  });

  describe('delays', () => {
    const delayQueues = async (): Promise<string[]> => {
      const names: string[] = [];
      const periodMs = 604_800_000;
      const period = Math.floor(Date.now() / periodMs);
      for (const near of [period - 1, period]) names.push(`${queue}.delay.500.${periodMs}.${near}`);
      const there = await Promise.all(names.map(isThere));
      return names.filter((_, index) => there[index]);
    };

    test('a copy whose queue is gone when its delay is over waits until it is there', async () => {
      await publish('a');
      const reader = await new Reader().open();
      const [delivery] = await reader.has(1);
      // Long enough for the queue to be gone by then.
      const delayMs = 5_000;
      await reader.source.republish([envelopeOf(delivery)], delayMs);
      await reader.source.acknowledge(reader.deliveries);
      await reader.source.close();
      await channel.deleteQueue(queue);
      // By default, the broker would have dropped the copy after this.
      await new Promise((resolve) => setTimeout(resolve, delayMs + A_WHILE_MS));
      expect(await isThere(queue)).toBe(false);
      const other = await new Reader().open();
      await other.has(1);
      expect(other.ids).toEqual(['a']);
    });

    test('a queue of delays that somebody deleted is made again', async () => {
      await publish('a');
      const reader = await new Reader().open();
      const [delivery] = await reader.has(1);
      await reader.source.republish([envelopeOf(delivery)], 500);
      await reader.has(2);
      for (const name of await delayQueues()) await channel.deleteQueue(name);
      await reader.source.republish([envelopeOf(delivery)], 500);
      await reader.has(3);
    });

    test('once the source is closed no copy waits for its queue, and nothing is made for one', async () => {
      await publish('a');
      const reader = await new Reader().open();
      const [delivery] = await reader.has(1);
      const republish = (): Promise<void> => reader.source.republish([envelopeOf(delivery)], 500);
      const waits = expect(republish()).rejects.toMatchObject({ fault: 'closed' });
      await until('its queue is there', async () => (await delayQueues()).length === 1);
      await reader.source.close();
      await waits;
      await expect(republish()).rejects.toMatchObject({ fault: 'closed' });
      const other = new Reader();
      const makes = expect(other.source.republish([envelopeOf(delivery)], 500)).rejects.toThrow();
      await other.source.close();
      await makes;
      await until('no connection is left', () => proxy.open === 0);
    });

    test('a copy that its queue does not confirm goes to another one', async () => {
      await publish('a');
      const reader = await new Reader({ confirmTimeoutMs: 3_000 }).open();
      const [delivery] = await reader.has(1);
      await reader.source.republish([envelopeOf(delivery)], 500);
      await reader.has(2);
      // As a broker leaves a queue that was made just before it crashed: it is there, and has no leader.
      for (const name of await delayQueues()) {
        const member = `{'%2F_${name}', node()}`;
        await server.control('eval', `ok = ra:stop_server(quorum_queues, ${member}).`);
      }
      const republish = (): Promise<void> => reader.source.republish([envelopeOf(delivery)], 500);
      await expect(republish()).rejects.toMatchObject({ fault: 'unknown' });
      await republish();
      await reader.has(3);
    });

    test('a copy in a queue that was just made is not lost with a broker that is killed', async () => {
      await publish('a');
      const reader = await new Reader().open();
      const [delivery] = await reader.has(1);
      // Long enough for the copy to be in its queue when the broker ends.
      await reader.source.republish([envelopeOf(delivery)], 3_000);
      await reader.source.acknowledge(reader.deliveries);
      await new Promise((resolve) => setTimeout(resolve, A_WHILE_MS));
      await server.kill();
      await server.startAgain();
      await reader.has(2);
      expect(reader.ids).toEqual(['a', 'a']);
    });

    test('no copy ends with its queue, and queues end', async () => {
      await publish('a');
      const idleMs = 1_500;
      const reader = await new Reader({ delayQueueIdleMs: idleMs }).open();
      const [delivery] = await reader.has(1);
      const first = Math.floor(Date.now() / idleMs);
      // The broker looks for expired queues every five seconds: for twice that time, there is always a copy on its way.
      let copies = 0;
      const untilMs = performance.now() + 12_000;
      const sent: Promise<void>[] = [];
      while (performance.now() < untilMs) {
        sent.push(reader.source.republish([{ ...envelopeOf(delivery), id: `c-${copies}` }], 300));
        copies += 1;
        await reader.source.acknowledge(reader.deliveries.slice(1));
        await new Promise((resolve) => setTimeout(resolve, 40));
      }
      await Promise.all(sent);
      await until('all came back', async () => {
        await reader.source.acknowledge(reader.deliveries.slice(1));
        return new Set(reader.ids).size === copies + 1;
      });
      expect(await isThere(`${queue}.delay.300.${idleMs}.${first}`)).toBe(false);
    });
  });
});
