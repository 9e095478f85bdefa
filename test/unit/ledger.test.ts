/**
 * How acknowledgements become frames, before a broker that is played here: it knows what it has delivered, and what each
 * frame settles.
 */
import fc from 'fast-check';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import type { AmqpChannel } from '../../dist/src/rabbitmq/client.js';
import { Ledger } from '../../dist/src/rabbitmq/ledger.js';

/** Longer than any acknowledgement waits. */
const LONG_MS = 1_000;

class Broker {
  readonly ledger: Ledger;
  readonly frames: string[] = [];
  readonly unsettled = new Set<number>();
  /** Of the last acknowledgement. */
  sent: Promise<void> = Promise.resolve();
  #last = 0;
  isGone = false;

  constructor() {
    const settle = (tag: number, isSettled: (one: number) => boolean): void => {
      if (this.isGone) throw new Error('Channel closed');
      if (!this.unsettled.has(tag)) throw new Error(`precondition failed: unknown tag ${tag}`);
      for (const one of [...this.unsettled]) if (isSettled(one)) this.unsettled.delete(one);
    };
    const channel: Pick<AmqpChannel, 'ack' | 'nack'> = {
      ack: ({ fields: { deliveryTag } }, allUpTo) => {
        this.frames.push(`${allUpTo ? '..' : ''}${deliveryTag}`);
        settle(deliveryTag, (one) => (allUpTo ? one <= deliveryTag : one === deliveryTag));
      },
      nack: ({ fields: { deliveryTag } }) => {
        this.frames.push(`-${deliveryTag}`);
        settle(deliveryTag, (one) => one === deliveryTag);
      },
    };
    this.ledger = new Ledger(channel as AmqpChannel, undefined);
  }

  deliver(count: number): void {
    for (let index = 0; index < count; index += 1) {
      this.#last += 1;
      this.unsettled.add(this.#last);
      this.ledger.add(this.#last);
    }
  }

  acknowledge(...tags: number[]): void {
    for (const tag of tags) this.sent = this.ledger.acknowledge(tag);
  }
}

let broker: Broker;
beforeEach(() => {
  const timers = ['setTimeout', 'clearTimeout', 'setImmediate', 'clearImmediate'] as const;
  vi.useFakeTimers({ toFake: [...timers, 'performance'] });
  broker = new Broker();
});
afterEach(() => {
  vi.useRealTimers();
});

/** To the end of this turn, without the time in which anything waits. */
const turn = () => vi.advanceTimersByTimeAsync(0);

test('all that come before the first unsettled delivery are one frame', async () => {
  broker.deliver(4);
  broker.acknowledge(2, 1, 3);
  await turn();
  expect(broker.frames).toEqual(['..3']);
});

test('while most deliveries are still worked on, acknowledgements wait for others', async () => {
  broker.deliver(10);
  broker.acknowledge(1);
  await turn();
  expect(broker.frames).toEqual([]);
  broker.acknowledge(2);
  await vi.advanceTimersByTimeAsync(4);
  expect(broker.frames).toEqual(['..2']);
});

test('the first ones are sent at once where the broker might have nothing else to do', async () => {
  broker.deliver(10);
  broker.acknowledge(1, 2, 3, 5);
  await turn();
  expect(broker.frames).toEqual(['..3']);
});

test('those behind an unsettled delivery wait for it', async () => {
  broker.deliver(10);
  broker.acknowledge(2, 3, 4);
  await vi.advanceTimersByTimeAsync(8);
  expect(broker.frames).toEqual([]);
  broker.acknowledge(1);
  await vi.advanceTimersByTimeAsync(4);
  expect(broker.frames).toEqual(['..4']);
});

test('they do not wait for one that takes long', async () => {
  broker.deliver(10);
  await vi.advanceTimersByTimeAsync(100);
  broker.acknowledge(2, 3, 4, 5);
  await turn();
  expect(broker.frames).toEqual(['2', '3', '4', '5']);
});

test('they do not wait for long', async () => {
  broker.deliver(10);
  broker.acknowledge(2, 3);
  await vi.advanceTimersByTimeAsync(LONG_MS);
  await broker.sent;
  expect(broker.frames).toEqual(['2', '3']);
});

test('they do not wait when there is little else to do', async () => {
  broker.deliver(5);
  broker.acknowledge(2, 3, 4, 5);
  await turn();
  expect(broker.frames).toEqual(['2', '3', '4', '5']);
});

test('those that wait are sent at the end of the turn in which hardly anything else is left to do', async () => {
  broker.deliver(20);
  broker.acknowledge(1, 3);
  await turn();
  broker.acknowledge(...Array.from({ length: 15 }, (_, index) => index + 4));
  await turn();
  expect(broker.frames).toEqual([]);
  broker.acknowledge(2);
  expect(broker.frames).toEqual([]);
  await turn();
  expect(broker.frames).toEqual(['..18']);
  broker.deliver(8);
  broker.acknowledge(19);
  await turn();
  expect(broker.frames).toEqual(['..18']);
  for (let tag = 20; tag <= 28; tag += 1) broker.ledger.release(tag);
  await turn();
  expect(broker.frames.at(-1)).toBe('..19');
});

test('what is given back goes at once, and is no longer waited for', async () => {
  broker.deliver(10);
  broker.acknowledge(2, 3);
  broker.ledger.release(1);
  expect(broker.frames).toEqual(['-1']);
  await vi.advanceTimersByTimeAsync(4);
  expect(broker.frames).toEqual(['-1', '..3']);
});

test('at the end all that waits is sent', async () => {
  broker.deliver(10);
  broker.acknowledge(1, 3);
  await turn();
  expect(broker.frames).toEqual([]);
  broker.ledger.flush();
  await broker.sent;
  expect(broker.frames).toEqual(['..1', '3']);
  broker.acknowledge(4);
  broker.ledger.flush();
  expect(vi.getTimerCount()).toBe(0);
});

test('nothing is sent over a channel that is gone, and nobody waits for it', async () => {
  broker.deliver(10);
  broker.acknowledge(1);
  broker.ledger.end();
  await vi.advanceTimersByTimeAsync(LONG_MS);
  await broker.sent;
  expect(broker.frames).toEqual([]);
  expect(broker.ledger.isLive).toBe(false);
});

test('a channel that ends while it is written to ends the ledger', async () => {
  broker.deliver(2);
  broker.isGone = true;
  broker.acknowledge(1, 2);
  await vi.advanceTimersByTimeAsync(LONG_MS);
  await broker.sent;
  expect(broker.ledger.isLive).toBe(false);
});

const steps = fc.array(
  fc.oneof(
    fc.record({ do: fc.constant('deliver' as const), count: fc.integer({ min: 1, max: 12 }) }),
    fc.record({
      do: fc.constant('settle' as const),
      picks: fc.array(fc.nat({ max: 99 }), { minLength: 1, maxLength: 8 }),
      isRelease: fc.boolean(),
    }),
    fc.record({ do: fc.constant('wait' as const), ms: fc.integer({ min: 0, max: 9 }) }),
  ),
  { maxLength: 40 },
);

test('whatever the order, exactly what was acknowledged or given back is settled', async () => {
  await fc.assert(
    fc.asyncProperty(steps, async (run) => {
      broker = new Broker();
      const worked: number[] = [];
      const sent: Promise<void>[] = [];
      let count = 0;
      for (const step of run) {
        if (step.do === 'wait') await vi.advanceTimersByTimeAsync(step.ms);
        if (step.do === 'deliver') {
          broker.deliver(step.count);
          for (let index = 1; index <= step.count; index += 1) worked.push(count + index);
          count += step.count;
        }
        if (step.do !== 'settle') continue;
        for (const pick of step.picks) {
          const [tag] = worked.splice(pick % Math.max(1, worked.length), 1);
          if (tag === undefined) continue;
          if (step.isRelease) broker.ledger.release(tag);
          else sent.push(broker.ledger.acknowledge(tag));
        }
        // What somebody still works on is never settled.
        for (const tag of worked) expect(broker.unsettled.has(tag)).toBe(true);
      }
      await vi.advanceTimersByTimeAsync(LONG_MS);
      await Promise.all(sent);
      expect([...broker.unsettled]).toEqual(worked);
      expect(broker.ledger.isLive).toBe(true);
      expect(broker.ledger.unsettled).toBe(worked.length);
    }),
  );
});
