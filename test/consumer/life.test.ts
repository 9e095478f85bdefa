import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import {
  type BatchMessage,
  CONSUMER_CHANNELS,
  consume,
  republish,
  retry,
  type SourceEvents,
} from 'leasehold/consumer';
import { memorySource } from 'leasehold/memory';
import { expect, test } from 'vitest';
import {
  atEnd,
  type Contribution,
  contribute,
  keyOf,
  makeSetting,
  start,
  sum,
  totalOf,
  until,
} from './setup.ts';

test('stop works on what is here, and takes nothing more', async () => {
  const setting = makeSetting();
  let goOn: () => void = () => {};
  const gate = new Promise<void>((resolve) => {
    goOn = resolve;
  });
  for (let n = 0; n < 20; n += 1) contribute(setting.queue, `m${n}`, 1);
  const consumer = start(setting, {
    source: memorySource(setting.queue, { prefetch: 5 }),
    reduce: async (total, messages) => {
      await gate;
      return sum(total, messages);
    },
  });
  await until(() => consumer.metrics().inFlight === 5);
  const stopped = consumer.stop();
  goOn();
  await stopped;
  expect(await totalOf(setting.state)).toBe(5);
  expect(setting.queue.depth).toMatchObject({ ready: 15, unsettled: 0 });
  expect(consumer.metrics()).toMatchObject({ delivered: 5, applied: 5, inFlight: 0 });
});

test('what stop cannot wait for is given back, and its place in line is kept', async () => {
  const setting = makeSetting();
  const lease = await setting.locks.acquire('maria');
  for (const id of ['m1', 'm2', 'm3']) contribute(setting.queue, id, 1);
  const consumer = start(setting, { source: memorySource(setting.queue, { prefetch: 2 }) });
  await until(() => consumer.metrics().inFlight === 2);
  await consumer.stop({ graceMs: 0 });
  expect(consumer.metrics()).toMatchObject({ released: 2, inFlight: 0, applied: 0, busy: 0 });
  expect(setting.queue.depth).toMatchObject({ ready: 3, unsettled: 0 });
  expect(setting.locks.usage.waiting).toBe(0);
  await lease.release();
  const ids: string[] = [];
  const reduce = (
    total: number | null,
    messages: readonly { id: string; body: Contribution }[],
  ) => {
    ids.push(...messages.map(({ id }) => id));
    return sum(total, messages);
  };
  const next = start(setting, { reduce });
  await until(() => next.metrics().applied === 3);
  expect(ids).toEqual(['m1', 'm2', 'm3']);
});

test('a handler that hangs does not keep stop from its end', async () => {
  const setting = makeSetting();
  contribute(setting.queue, 'm1', 1);
  let isCalled = false;
  const consumer = start(setting, {
    reduce: () => {
      isCalled = true;
      return new Promise<number>(() => {});
    },
  });
  await until(() => isCalled);
  await consumer.stop({ graceMs: 1 });
  expect(setting.queue.depth).toMatchObject({ ready: 1, unsettled: 0 });
});

test('an engine that cannot be opened is told by ready and by failed', async () => {
  const setting = makeSetting();
  const source = memorySource(setting.queue);
  source.open = async () => {
    throw new Error('no such queue');
  };
  const consumer = start(setting, { source });
  await expect(consumer.ready).rejects.toThrow('no such queue');
  expect((await consumer.failed).message).toBe('no such queue');
  await consumer.stop();
});

test('a source that cannot go on is told by failed, and what is here is worked on', async () => {
  const setting = makeSetting();
  const source = memorySource(setting.queue);
  const open = source.open.bind(source);
  let events: SourceEvents | undefined;
  source.open = (given) => {
    events = given;
    return open(given);
  };
  const consumer = start(setting, { source });
  await consumer.ready;
  contribute(setting.queue, 'm1', 5);
  await until(() => consumer.metrics().delivered === 1);
  events?.failed(new Error('the queue was deleted'));
  expect((await consumer.failed).message).toBe('the queue was deleted');
  await consumer.stop();
  expect(await totalOf(setting.state)).toBe(5);
});

test('locks that are closed end the consumer, and the messages are given back', async () => {
  const setting = makeSetting();
  const consumer = start(setting, { elideLock: false });
  await consumer.ready;
  await setting.locks.close();
  contribute(setting.queue, 'm1', 5);
  expect(await consumer.failed).toMatchObject({ code: 'MANAGER_CLOSED' });
  await consumer.stop();
  expect(setting.queue.depth).toMatchObject({ ready: 1, unsettled: 0 });
});

test('what is delivered again while its handler still runs is applied once', async () => {
  const setting = makeSetting();
  let runs = 0;
  const consumer = start(setting, {
    reduce: async (total, messages) => {
      runs += 1;
      if (runs === 1) setting.queue.cut();
      return sum(total, messages);
    },
  });
  contribute(setting.queue, 'm1', 5);
  await until(() => consumer.metrics().delivered === 2 && consumer.metrics().inFlight === 0);
  expect(await totalOf(setting.state)).toBe(5);
  expect(runs).toBe(1);
  expect(consumer.metrics()).toMatchObject({ applied: 1, duplicates: 1, redelivered: 1 });
});

test('handle gets the messages and the lease, and those that throw are tried by themselves', async () => {
  const setting = makeSetting();
  const calls: string[][] = [];
  let isMended = false;
  for (const id of ['m1', 'm2', 'm3']) contribute(setting.queue, id, 1);
  const consumer = consume<Contribution>({
    source: memorySource(setting.queue),
    locks: setting.locks,
    keyOf,
    onFailed: retry({ delayMs: 1 }),
    handle: (messages, lease) => {
      calls.push(messages.map(({ id }) => id));
      lease.assertHeld();
      if (messages.some(({ id }) => id === 'm2') && !isMended) throw new Error('no');
      if (calls.length === 4) isMended = true;
    },
  });
  atEnd(() => consumer.stop({ graceMs: 0 }));
  await until(() => consumer.metrics().applied === 3);
  expect(calls).toEqual([['m1', 'm2', 'm3'], ['m1'], ['m2'], ['m3'], ['m2']]);
  expect(consumer.metrics()).toMatchObject({ failed: 1, failedDeferred: 1 });
});

test('what a handler did when its lease was lost does not count, and is no failure', async () => {
  const setting = makeSetting();
  contribute(setting.queue, 'm1', 1);
  let calls = 0;
  const consumer = consume<Contribution>({
    source: memorySource(setting.queue),
    locks: setting.locks,
    keyOf,
    maxHoldMs: 20,
    handle: async (_, lease) => {
      calls += 1;
      if (calls === 1) await until(() => lease.signal.aborted);
    },
  });
  atEnd(() => consumer.stop({ graceMs: 0 }));
  await until(() => consumer.metrics().applied === 1);
  expect(calls).toBe(2);
  expect(consumer.metrics()).toMatchObject({ failed: 0, setbacks: { lost: 1 } });
});

test('what a handler ends after all was halted is acknowledged, and not given back', async () => {
  const setting = makeSetting();
  for (const id of ['m1', 'm2', 'm3']) contribute(setting.queue, id, 1);
  let end: () => void = () => {};
  const batches: (readonly string[])[] = [];
  const consumer = consume<Contribution>({
    source: memorySource(setting.queue),
    locks: setting.locks,
    keyOf,
    handle: async (messages) => {
      batches.push(messages.map(({ id }) => id));
      // Which of them was wrong is not known: each is tried by itself.
      if (batches.length === 1) throw new Error('not all at once');
      await new Promise<void>((resolve) => {
        end = resolve;
      });
    },
  });
  await until(() => batches.length === 2);
  await consumer.stop({ graceMs: 0 });
  end();
  await until(() => consumer.metrics().inFlight === 0);
  expect(batches).toEqual([['m1', 'm2', 'm3'], ['m1']]);
  expect(consumer.metrics()).toMatchObject({ delivered: 3, applied: 1, released: 2, inFlight: 0 });
});

test('a single attempt at the lock does not find it taken by its own lane', async () => {
  const setting = makeSetting();
  for (let n = 0; n < 100; n += 1) contribute(setting.queue, `m${n}`, 1);
  const consumer = start(setting, { waitMs: 0, maxBatch: 1 });
  await until(() => consumer.metrics().applied === 100);
  expect(consumer.metrics().busy).toBe(0);
});

test('metrics count each delivery once, and latencies in buckets', async () => {
  const setting = makeSetting();
  const consumer = start(setting);
  for (let n = 0; n < 10; n += 1) contribute(setting.queue, `m${n % 5}`, 1);
  await until(() => consumer.metrics().delivered === 10 && consumer.metrics().inFlight === 0);
  const { latency, applied, duplicates } = consumer.metrics();
  expect({ applied, duplicates }).toEqual({ applied: 5, duplicates: 5 });
  expect(latency.count).toBe(10);
  expect(latency.buckets.at(-1)).toEqual({ leMs: Infinity, count: 10 });
  expect(latency.sumMs).toBeGreaterThanOrEqual(latency.maxMs);
});

test('the channels tell of batches, and of nothing that is secret', async () => {
  const heard: BatchMessage[] = [];
  const listen = (message: unknown): void => {
    heard.push(message as BatchMessage);
  };
  subscribe(CONSUMER_CHANNELS.batch, listen);
  atEnd(async () => unsubscribe(CONSUMER_CHANNELS.batch, listen));
  const setting = makeSetting();
  contribute(setting.queue, 'm1', 5);
  const consumer = start(setting);
  await until(() => consumer.metrics().applied === 1);
  expect(heard).toEqual([{ key: 'maria', token: expect.any(BigInt), messages: 1, isKept: false }]);
});

test('options that cannot be right are refused at once', () => {
  const { queue, state, locks } = makeSetting();
  const source = memorySource(queue);
  const right = { source, locks, keyOf, state, reduce: sum };
  const wrong: [object, string][] = [
    [{ ...right, source: undefined }, 'give a source'],
    [{ ...right, locks: {} }, 'give locks'],
    [{ ...right, keyOf: 'account' }, 'give keyOf'],
    [{ ...right, handle: () => {} }, 'either reduce or handle'],
    [{ ...right, state: undefined }, 'give a state'],
    [{ ...right, maxBatch: 0 }, 'maxBatch'],
    [{ ...right, waitMs: -1 }, 'waitMs'],
    [{ ...right, onBusy: {} }, 'onBusy'],
    [{ ...right, decode: 7 }, 'decode'],
  ];
  for (const [options, message] of wrong) {
    expect(() => consume(options as never)).toThrow(message);
  }
  expect(() => consume(undefined as never)).toThrow('give a source');
  expect(() => republish({ delayMs: 0 })).toThrow('delayMs');
  expect(() => retry({ maxAttempts: 0 })).toThrow('maxAttempts');
});

test('a policy that throws ends the consumer, and leaves no lease behind', async () => {
  const setting = makeSetting();
  contribute(setting.queue, 'm1', 1);
  const policy = retry({ maxAttempts: 2 });
  const attempts = {
    ...policy.attempts,
    delayMs: () => {
      throw new Error('no delay');
    },
  };
  const consumer = start(setting, {
    onFailed: { ...policy, attempts },
    reduce: () => {
      throw new Error('no state');
    },
  });
  expect(await consumer.failed).toMatchObject({ message: 'no delay' });
  await consumer.stop();
  expect(setting.locks.usage).toEqual({ keys: 0, leases: 0, waiting: 0 });
});
