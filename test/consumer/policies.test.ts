import {
  type Consumer,
  type Envelope,
  outbox,
  republish,
  retry,
  type StateStore,
} from 'leasehold/consumer';
import { type MemoryQueue, memoryOutbox } from 'leasehold/memory';
import { expect, test } from 'vitest';
import {
  atEnd,
  contribute,
  makeLocks,
  makeSetting,
  type Setting,
  start,
  sum,
  totalOf,
  until,
} from './setup.ts';

const quiet = (queue: MemoryQueue): boolean => {
  const { ready, unsettled, delayed } = queue.depth;
  return ready + unsettled + delayed === 0;
};

/** Somebody else has the lock of a key, until the result is called. */
async function hold({ space }: Setting, key = 'maria'): Promise<() => Promise<void>> {
  const lease = await makeLocks(space).acquire(key);
  const release = (): Promise<void> => lease.release();
  atEnd(release);
  return release;
}

test('a message whose lock is not got in time is republished, and applied once the lock is free', async () => {
  const setting = makeSetting();
  const release = await hold(setting);
  contribute(setting.queue, 'm1', 5);
  const consumer = start(setting, {
    waitMs: 10,
    onBusy: republish({ delayMs: 5, maxAttempts: 100_000 }),
  });
  await until(() => consumer.metrics().busyDeferred >= 3);
  expect(consumer.metrics()).toMatchObject({ applied: 0, failed: 0 });
  await release();
  await until(() => consumer.metrics().applied === 1);
  expect(await totalOf(setting.state)).toBe(5);
});

test('a message that is busy too often is dead-lettered, and is not applied when a copy comes', async () => {
  const setting = makeSetting();
  const release = await hold(setting);
  contribute(setting.queue, 'm1', 5);
  const consumer = start(setting, { waitMs: 5, onBusy: republish({ delayMs: 5, maxAttempts: 3 }) });
  await until(() => setting.queue.depth.dead === 1);
  const [letter] = await setting.queue.deadLetters().list(1);
  expect(letter).toMatchObject({ reason: 'busy', envelope: { id: 'm1', busyCount: 2 } });
  expect(letter?.detail).toMatch(/held by .+:\d+/);
  expect(consumer.metrics()).toMatchObject({ busy: 3, busyDeferred: 2, failed: 0 });
  await release();
  contribute(setting.queue, 'm1', 5);
  await until(() => setting.queue.depth.dead === 2);
  expect((await setting.queue.deadLetters().list(2))[1]).toMatchObject({ reason: 'dead-before' });
  expect(await totalOf(setting.state)).toBe(null);
  // A person wants it: the mark goes with the commit that applies it, and the second replay is a copy.
  expect(await setting.queue.deadLetters().replay(() => true)).toBe(2);
  await until(() => consumer.metrics().applied === 1 && quiet(setting.queue));
  expect(await totalOf(setting.state)).toBe(5);
  expect(consumer.metrics()).toMatchObject({ duplicates: 1 });
});

test('who comes later than the first has its own time to wait', async () => {
  const setting = makeSetting();
  const release = await hold(setting);
  const consumer = start(setting, { waitMs: 400, onBusy: republish({ delayMs: 60_000 }) });
  await consumer.ready;
  contribute(setting.queue, 'early', 1);
  await new Promise((resolve) => setTimeout(resolve, 100));
  contribute(setting.queue, 'late', 2);
  await until(() => consumer.metrics().busy === 1);
  await release();
  await until(() => consumer.metrics().applied === 1);
  expect(await totalOf(setting.state)).toBe(2);
});

test('a busy message waits in the outbox, and the drain feeds it to the lane of its key', async () => {
  const setting = makeSetting();
  const box = memoryOutbox();
  const release = await hold(setting);
  contribute(setting.queue, 'm1', 5);
  contribute(setting.queue, 'm2', 7, { account: 'otto' });
  const consumer = start(setting, { waitMs: 5, onBusy: outbox(box, { delayMs: 5, pollMs: 5 }) });
  await until(() => consumer.metrics().busyDeferred >= 2);
  expect(quiet(setting.queue)).toBe(true);
  expect(await totalOf(setting.state, 'otto')).toBe(7);
  await until(() => consumer.metrics().outbox?.entries === 1);
  expect(consumer.metrics().outbox?.oldestAgeMs).toBeGreaterThan(0);
  await release();
  await until(async () => (await box.depth()).entries === 0);
  expect(await totalOf(setting.state)).toBe(5);
});

function entryOf(id: string, amount: number): Envelope {
  return {
    id,
    content: new TextEncoder().encode(JSON.stringify({ account: 'maria', amount })),
    contentType: null,
    headers: {},
    properties: {},
    publishedAtMs: Date.now(),
    busyCount: 1,
    failedCount: 0,
    isReplay: false,
  };
}

test('an entry that came again, since its claim was over, is put back and not removed', async () => {
  const setting = makeSetting();
  const box = memoryOutbox();
  let [isOpen, isHeldUp, failures] = [false, false, 0];
  const { state: real } = setting;
  const state: StateStore = {
    name: real.name,
    windowMs: real.windowMs,
    open: () => real.open(),
    peek: (key) => real.peek(key),
    load: (key, lease, messages) => real.load(key, lease, messages),
    markDead: (key, messages) => real.markDead(key, messages),
    close: () => real.close(),
    // The batch has to be worked on again, with all that has come meanwhile.
    async commit(commit) {
      if (isHeldUp || commit.messages.every(({ id }) => id !== 'm2')) return real.commit(commit);
      isHeldUp = true;
      await until(() => consumer.metrics().redelivered > 0);
      return { is: 'stale', fence: commit.lease.tokenText };
    },
  };
  const consumer = start(setting, {
    state,
    onBusy: outbox(box, { leaseMs: 300, pollMs: 5 }),
    onFailed: retry({ maxAttempts: 10, delayMs: 5 }),
    reduce: async (total, messages) => {
      await until(() => isOpen);
      if (isHeldUp && failures < 3 && messages.some(({ id }) => id === 'm2')) {
        failures += 1;
        throw new Error('not yet');
      }
      return sum(total, messages);
    },
  });
  contribute(setting.queue, 'm1', 1);
  await until(() => consumer.metrics().delivered === 1);
  // With a copy from the source it counts as one that is still here when its claim is over.
  await box.put([entryOf('m2', 5)], 0);
  await until(() => consumer.metrics().delivered === 2);
  contribute(setting.queue, 'm2', 5);
  await until(() => consumer.metrics().delivered === 3);
  isOpen = true;
  await until(async () => (await box.depth()).entries === 0);
  await until(() => consumer.metrics().inFlight === 0);
  expect(await totalOf(setting.state)).toBe(6);
});

test('entries of a consumer that died are drained by another, when their claim is over', async () => {
  const setting = makeSetting();
  const box = memoryOutbox();
  await box.put([entryOf('m1', 5)], 0);
  expect((await box.claim(1, 50)).deliveries).toHaveLength(1);
  const consumer = start(setting, { onBusy: outbox(box, { pollMs: 5 }) });
  await until(() => consumer.metrics().applied === 1);
  expect(consumer.metrics()).toMatchObject({ redelivered: 1 });
  expect(await box.depth()).toEqual({ entries: 0, oldestAgeMs: 0 });
});

test('poison is taken out of its batch, retried, and dead-lettered with its error and its headers', async () => {
  const setting = makeSetting();
  for (let n = 0; n < 10; n += 1) contribute(setting.queue, `m${n}`, n === 4 ? -1 : 1);
  const batches: number[] = [];
  const consumer = start(setting, {
    onFailed: retry({ maxAttempts: 3, delayMs: 1, backoff: 'fixed' }),
    reduce: (total, messages) => {
      batches.push(messages.length);
      if (messages.some(({ body }) => body.amount < 0)) throw new RangeError('no debts');
      return sum(total, messages);
    },
  });
  await until(() => setting.queue.depth.dead === 1 && quiet(setting.queue));
  expect(await totalOf(setting.state)).toBe(9);
  expect(batches[0]).toBe(10);
  const [letter] = await setting.queue.deadLetters().list(1);
  expect(letter).toMatchObject({
    reason: 'failed',
    detail: 'RangeError: no debts',
    envelope: { id: 'm4', failedCount: 2, busyCount: 0 },
  });
  expect(consumer.metrics()).toMatchObject({
    applied: 9,
    failed: 3,
    failedDeferred: 2,
    busy: 0,
    deadLettered: { failed: 1, busy: 0 },
  });
});

test('a reducer that returns nothing has failed', async () => {
  const setting = makeSetting();
  contribute(setting.queue, 'm1', 1);
  start(setting, { onFailed: retry({ maxAttempts: 1 }), reduce: () => undefined as never });
  await until(() => setting.queue.depth.dead === 1);
  const [letter] = await setting.queue.deadLetters().list(1);
  expect(letter?.detail).toMatch('cannot be stored');
});

test('what cannot be worked on goes to a person with the reason, and the rest goes on', async () => {
  const setting = makeSetting();
  const { queue } = setting;
  const now = { publishedAtMs: Date.now() };
  await queue.publish({ id: 'malformed', content: '{' });
  await queue.publish({ id: 'not-text', content: new Uint8Array([0xff, 0xfe]) });
  contribute(queue, null, 1);
  await queue.publish({ id: 'no-key', content: '{"account":7}' });
  await queue.publish({ id: 'key-throws', content: 'null' });
  contribute(queue, 'no-time', 1, { publishedAtMs: null });
  contribute(queue, 'too-early', 1, { publishedAtMs: now.publishedAtMs + 3 * 86_400_000 });
  contribute(queue, 'good', 5);
  const consumer = start(setting);
  await until(() => consumer.metrics().applied === 1 && queue.depth.dead === 7 && quiet(queue));
  const letters = await queue.deadLetters().list(10);
  const reasons = Object.fromEntries(letters.map(({ envelope, reason }) => [envelope.id, reason]));
  expect(reasons).toEqual({
    malformed: 'malformed',
    'not-text': 'malformed',
    null: 'no-id',
    'no-key': 'no-key',
    'key-throws': 'no-key',
    'no-time': 'no-time',
    'too-early': 'too-old',
  });
  expect(letters.every(({ detail }) => detail.length > 10)).toBe(true);
  expect(consumer.metrics().deadLettered).toMatchObject({ malformed: 2, 'no-key': 2, 'no-id': 1 });
});

test('ids and times can be derived from the message', async () => {
  const setting = makeSetting();
  for (let copy = 0; copy < 2; copy += 1) {
    contribute(setting.queue, null, 5, { publishedAtMs: null });
  }
  const consumer = start(setting, {
    idOf: ({ body }) => `${body.account}-${body.amount}`,
    publishedAtOf: () => Date.now(),
  });
  await until(() => consumer.metrics().delivered === 2 && quiet(setting.queue));
  expect(await totalOf(setting.state)).toBe(5);
});

test('a copy that cannot be published is not acknowledged before it is safe', async () => {
  const setting = makeSetting();
  const release = await hold(setting);
  const { memorySource } = await import('leasehold/memory');
  const source = memorySource(setting.queue);
  let refusals = 0;
  const republishing = source.republish.bind(source);
  source.republish = async (envelopes, delayMs) => {
    refusals += 1;
    if (refusals < 3) throw new Error('returned: nobody takes it');
    await republishing(envelopes, delayMs);
  };
  contribute(setting.queue, 'm1', 5);
  const onBusy = republish({ delayMs: 5 });
  const consumer: Consumer = start(setting, { source, waitMs: 5, onBusy });
  await until(() => refusals === 2);
  expect(setting.queue.depth).toMatchObject({ unsettled: 1, delayed: 0 });
  await release();
  await until(() => consumer.metrics().applied === 1);
  expect(await totalOf(setting.state)).toBe(5);
});
