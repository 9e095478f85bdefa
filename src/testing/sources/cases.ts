/**
 * What every source must do.
 */
import assert from 'node:assert/strict';
import type { SourceHookName } from './fixture.ts';
import { essence, type Reader, type SourceTrial } from './trial.ts';

export interface SourceCase {
  /** Unique, and a sentence that is true of every source that passes. */
  readonly name: string;
  readonly hooks?: readonly SourceHookName[];
  run(trial: SourceTrial): Promise<void>;
}

const A_WHILE_MS = 60;

const deliveryCases: readonly SourceCase[] = [
  {
    name: 'a message is delivered as its producer made it',
    async run(trial) {
      const reader = await trial.reader();
      const before = Date.now();
      const id = await trial.publisher().publish({
        id: 'm-1',
        content: new Uint8Array([0, 1, 254, 255]),
        contentType: 'application/octet-stream',
        headers: { text: 'grüße', number: 7, yes: true, nested: { list: [1, 'two'] } },
      });
      assert.equal(id, 'm-1');
      await trial.delivered(reader, 1);
      const [delivery] = reader.deliveries;
      assert(delivery);
      const { envelope } = delivery;
      assert.equal(envelope.id, 'm-1');
      assert.deepEqual([...envelope.content], [0, 1, 254, 255]);
      assert.equal(envelope.contentType, 'application/octet-stream');
      assert.deepEqual(envelope.headers, {
        text: 'grüße',
        number: 7,
        yes: true,
        nested: { list: [1, 'two'] },
      });
      assert(envelope.publishedAtMs !== null && envelope.publishedAtMs >= before);
      assert.equal(envelope.busyCount, 0);
      assert.equal(envelope.failedCount, 0);
      assert.equal(envelope.isReplay, false);
      assert.equal(delivery.isRedelivered, false);
      assert.equal(delivery.isLive(), true);
    },
  },
  {
    name: 'a message without an id gets one, and text is sent as UTF-8',
    async run(trial) {
      const reader = await trial.reader();
      const publisher = trial.publisher();
      const ids = [
        await publisher.publish({ content: 'ä' }),
        await publisher.publish({ content: 'ä' }),
      ];
      await trial.delivered(reader, 2);
      sameIds(reader.ids, ids);
      assert.notEqual(ids[0], ids[1]);
      assert.deepEqual([...(reader.deliveries[0]?.envelope.content ?? [])], [0xc3, 0xa4]);
    },
  },
  {
    name: 'messages come in the order in which they were published, those of an absent reader too',
    async run(trial) {
      const ids = Array.from({ length: 30 }, (_, index) => `m-${index}`);
      await trial.publish(...ids.slice(0, 15));
      const reader = await trial.reader();
      await trial.publish(...ids.slice(15));
      await trial.delivered(reader, ids.length);
      assert.deepEqual(reader.ids, ids);
    },
  },
  {
    name: 'no more than the prefetch is here and not settled',
    async run(trial) {
      await trial.publish('a', 'b', 'c', 'd', 'e');
      const reader = await trial.reader({ prefetch: 2 });
      await trial.delivered(reader, 2);
      await aWhile();
      assert.deepEqual(reader.ids, ['a', 'b']);
      await reader.source.acknowledge([reader.of('a')]);
      await trial.delivered(reader, 3);
      await aWhile();
      assert.deepEqual(reader.ids, ['a', 'b', 'c']);
      await reader.source.acknowledge(reader.deliveries.slice(1));
      await trial.delivered(reader, 5);
    },
  },
  {
    name: 'two readers share the messages',
    async run(trial) {
      await trial.publish('a', 'b');
      const readers = [await trial.reader({ prefetch: 1 }), await trial.reader({ prefetch: 1 })];
      for (const reader of readers) await trial.delivered(reader, 1);
      const all = readers.flatMap((reader) => reader.ids);
      sameIds(all, ['a', 'b']);
    },
  },
  {
    name: 'a source is opened once',
    async run(trial) {
      const reader = await trial.reader();
      await assert.rejects(reader.open());
    },
  },
];

const settlingCases: readonly SourceCase[] = [
  {
    name: 'what was acknowledged never comes again, the rest does, and is marked',
    async run(trial) {
      await trial.publish('a', 'b', 'c');
      const first = await trial.reader();
      await trial.delivered(first, 3);
      await first.source.acknowledge([first.of('b')]);
      await first.source.close();
      const second = await trial.reader();
      await trial.delivered(second, 2);
      await aWhile();
      sameIds(second.ids, ['a', 'c']);
      assert(second.deliveries.every(({ isRedelivered }) => isRedelivered));
    },
  },
  {
    name: 'acknowledged in any order, in parts and twice, exactly the others come again',
    async run(trial) {
      const ids = Array.from({ length: 200 }, (_, index) => `m-${index}`);
      const publisher = trial.publisher();
      await Promise.all(ids.map((id) => publisher.publish({ id, content: '{}' })));
      const first = await trial.reader({ prefetch: 200 });
      await trial.delivered(first, ids.length);
      // A multiplication that goes once through all numbers below 200 mixes them well enough.
      const mixed = first.deliveries.map((_, index) => first.deliveries[(index * 83) % 200]);
      const done = mixed.filter((one, index) => one !== undefined && index % 3 !== 0);
      const settled: Promise<void>[] = [];
      for (let from = 0; from < done.length; from += 7) {
        const part = done.slice(from, from + 7) as typeof first.deliveries;
        settled.push(first.source.acknowledge(part), first.source.acknowledge(part.slice(0, 2)));
        if (from % 2 === 0) await turn();
      }
      await Promise.all(settled);
      await first.source.close();
      const acknowledged = new Set(done.map((one) => one?.envelope.id));
      const left = ids.filter((id) => !acknowledged.has(id));
      const second = await trial.reader({ prefetch: 200 });
      await trial.delivered(second, left.length);
      await aWhile();
      sameIds(second.ids, left);
    },
  },
  {
    name: 'a released message is delivered again, and the others are not',
    async run(trial) {
      await trial.publish('a', 'b');
      const reader = await trial.reader();
      await trial.delivered(reader, 2);
      const [a] = reader.deliveries;
      assert(a);
      await reader.source.release([a]);
      await trial.delivered(reader, 3);
      await aWhile();
      assert.deepEqual(reader.ids, ['a', 'b', 'a']);
      assert.equal(reader.of('a').isRedelivered, true);
      await reader.source.acknowledge([reader.of('a'), reader.of('b')]);
      await reader.source.acknowledge([a]);
      assert.equal(await left(trial, reader), 0);
    },
  },
  {
    name: 'after a close nothing is live, and settling does nothing',
    async run(trial) {
      await trial.publish('a');
      const first = await trial.reader();
      await trial.delivered(first, 1);
      await first.source.close();
      assert.equal(first.of('a').isLive(), false);
      await first.source.acknowledge(first.deliveries);
      await first.source.release(first.deliveries);
      const second = await trial.reader();
      await trial.delivered(second, 1);
    },
  },
  {
    name: 'closing twice at once settles both, and what was being published before',
    async run(trial) {
      const publisher = trial.publisher();
      const safe = [await publisher.publish({ content: '{}' })];
      const publishing = Array.from({ length: 100 }, async () => {
        safe.push(await publisher.publish({ content: '{}' }));
      });
      const settled = Promise.allSettled(publishing);
      await new Promise((resolve) => setImmediate(resolve));
      const closing = [publisher.close(), publisher.close()];
      await trial.settles('closing a publisher twice', Promise.all(closing));
      await trial.settles('publishing', settled);
      const reader = await trial.reader({ prefetch: 200 });
      await trial.until('all that is safe comes', () =>
        safe.every((id) => reader.ids.includes(id)),
      );
      const { source } = reader;
      await trial.settles('closing a source twice', Promise.all([source.close(), source.close()]));
    },
  },
  {
    name: 'after a stop nothing is delivered, and what was delivered can be settled',
    async run(trial) {
      await trial.publish('a', 'b');
      const first = await trial.reader();
      await trial.delivered(first, 2);
      await trial.settles('stopping', first.source.stop());
      await trial.publish('c');
      await aWhile();
      assert.deepEqual(first.ids, ['a', 'b']);
      assert.equal(first.of('a').isLive(), true);
      await first.source.acknowledge([first.of('a')]);
      await first.source.close();
      const second = await trial.reader();
      await trial.delivered(second, 2);
      await aWhile();
      sameIds(second.ids, ['b', 'c']);
    },
  },
];

const copyCases: readonly SourceCase[] = [
  {
    name: 'a republished copy comes back with all that the message had, and with its counts',
    async run(trial) {
      const reader = await trial.reader();
      await trial.publisher().publish({
        id: 'a',
        content: 'text',
        contentType: 'text/plain',
        headers: { by: 'producer' },
      });
      await trial.delivered(reader, 1);
      const { envelope } = reader.of('a');
      await reader.source.republish([{ ...envelope, busyCount: 3, failedCount: 2 }], 20);
      await reader.source.acknowledge([reader.of('a')]);
      await trial.delivered(reader, 2);
      const copy = reader.of('a').envelope;
      assert.deepEqual(essence(copy), essence(envelope));
      assert.equal(copy.busyCount, 3);
      assert.equal(copy.failedCount, 2);
      // Once more, since an engine may have added things of its own on the way.
      await reader.source.republish([copy], 20);
      await reader.source.acknowledge([reader.of('a')]);
      await trial.delivered(reader, 3);
      assert.deepEqual(essence(reader.of('a').envelope), essence(envelope));
    },
  },
  {
    name: 'a short delay does not wait behind a long one',
    async run(trial) {
      const reader = await trial.reader();
      await trial.publish('long', 'short');
      await trial.delivered(reader, 2);
      await reader.source.republish([reader.of('long').envelope], 3_600_000);
      await reader.source.republish([reader.of('short').envelope], 20);
      await reader.source.acknowledge(reader.deliveries);
      await trial.delivered(reader, 3);
      assert.deepEqual(reader.ids, ['long', 'short', 'short']);
    },
  },
  {
    name: 'copies that wait outlive the source that published them',
    async run(trial) {
      const first = await trial.reader();
      await trial.publish('a');
      await trial.delivered(first, 1);
      await first.source.republish([first.of('a').envelope], 200);
      await first.source.acknowledge([first.of('a')]);
      await first.source.close();
      const second = await trial.reader();
      await trial.delivered(second, 1);
      assert.deepEqual(second.ids, ['a']);
    },
  },
  {
    name: 'nothing can be republished, and a delay that is no number is refused',
    async run(trial) {
      const reader = await trial.reader();
      await reader.source.republish([], 10);
      await assert.rejects(reader.source.republish([], Number.NaN));
      await assert.rejects(reader.source.republish([], -1));
    },
  },
  {
    name: 'a dead letter is listed, again and again, with its reason and all that it had',
    async run(trial) {
      const reader = await trial.reader();
      const letters = trial.deadLetters();
      assert.deepEqual(await letters.list(10), []);
      await trial.publisher().publish({ id: 'a', content: '{', headers: { by: 'producer' } });
      await trial.delivered(reader, 1);
      const { envelope } = reader.of('a');
      const before = Date.now();
      const note = { reason: 'failed', detail: 'the handler threw: no' } as const;
      await reader.source.deadLetter([{ ...envelope, failedCount: 5 }], note);
      await reader.source.acknowledge(reader.deliveries);
      for (let times = 0; times < 2; times += 1) {
        await trial.until('it is listed', async () => (await letters.list(10)).length === 1);
      }
      const [letter] = await letters.list(10);
      assert(letter);
      assert.deepEqual(essence(letter.envelope), essence(envelope));
      assert.equal(letter.envelope.failedCount, 5);
      assert.equal(letter.reason, 'failed');
      assert.equal(letter.detail, 'the handler threw: no');
      assert(letter.deadSinceMs !== null && letter.deadSinceMs >= before);
      await aWhile();
      assert.deepEqual(reader.ids, ['a']);
    },
  },
  {
    name: 'replay brings back what is wanted, as a replay with a new time, and leaves the rest',
    async run(trial) {
      const reader = await trial.reader();
      const letters = trial.deadLetters();
      await trial.publish('a', 'b', 'c');
      await trial.delivered(reader, 3);
      const dead = reader.deliveries.map(({ envelope }) => ({ ...envelope, failedCount: 2 }));
      await reader.source.deadLetter(dead, { reason: 'failed', detail: 'no' });
      await reader.source.acknowledge(reader.deliveries);
      assert.equal((await letters.list(2)).length, 2);
      const before = Date.now();
      await trial.until('all are listed', async () => (await letters.list(10)).length === 3);
      assert.equal(await letters.replay(({ envelope }) => envelope.id === 'b'), 1);
      await trial.delivered(reader, 4);
      const { envelope } = reader.of('b');
      assert.equal(envelope.isReplay, true);
      assert.equal(envelope.failedCount, 0);
      assert(envelope.publishedAtMs !== null && envelope.publishedAtMs >= before);
      const rest = async (): Promise<Ids> =>
        (await letters.list(10)).map((letter) => letter.envelope.id);
      await trial.until('the others are listed', async () => (await rest()).length === 2);
      sameIds(await rest(), ['a', 'c']);
    },
  },
];

const faultCases: readonly SourceCase[] = [
  {
    name: 'when connections break, deliveries are not live any more and come again',
    hooks: ['cut'],
    async run(trial) {
      await trial.publish('a', 'b');
      const reader = await trial.reader();
      await trial.delivered(reader, 2);
      const before = [...reader.deliveries];
      await trial.cut();
      await trial.until('they are not live', () => before.every((one) => !one.isLive()));
      await reader.source.acknowledge(before);
      await trial.delivered(reader, 4);
      const again = reader.deliveries.slice(2);
      sameIds(
        again.map(({ envelope }) => envelope.id),
        ['a', 'b'],
      );
      assert(again.every((one) => one.isRedelivered && one.isLive()));
      await reader.source.acknowledge(again);
      assert.equal(await left(trial, reader), 0);
      assert.deepEqual(reader.failures, []);
    },
  },
  {
    name: 'over a restart of the engine, nothing is lost and the source goes on',
    hooks: ['restart'],
    async run(trial) {
      const reader = await trial.reader();
      await trial.publish('a', 'dead', 'late');
      await trial.delivered(reader, 3);
      const note = { reason: 'failed', detail: 'no' } as const;
      await reader.source.deadLetter([reader.of('dead').envelope], note);
      await reader.source.republish([reader.of('late').envelope], 300);
      await reader.source.acknowledge([reader.of('dead'), reader.of('late')]);
      await reader.source.stop();
      await reader.source.close();
      const again = await trial.reader();
      await trial.until('what was not settled is here', () => again.ids.includes('a'));
      await trial.restart();
      await trial.publish('after');
      const all = (): boolean => ['a', 'late', 'after'].every((id) => again.ids.includes(id));
      await trial.until('all are delivered', all);
      const letters = trial.deadLetters();
      await trial.until('the dead letter is listed', async () => {
        return (await letters.list(10)).map(({ envelope }) => envelope.id).join() === 'dead';
      });
      assert.deepEqual(again.failures, []);
    },
  },
  {
    name: 'what a killed process had is delivered again',
    hooks: ['processes'],
    async run(trial) {
      const ids = ['a', 'b', 'c'];
      await trial.publish(...ids);
      await trial.takeAndDie(ids.length);
      const reader = await trial.reader();
      await trial.delivered(reader, ids.length);
      sameIds(reader.ids, ids);
      assert(reader.deliveries.every(({ isRedelivered }) => isRedelivered));
    },
  },
];

export const sourceCases: readonly SourceCase[] = [
  ...deliveryCases,
  ...settlingCases,
  ...copyCases,
  ...faultCases,
];

type Ids = readonly (string | null)[];

function sameIds(actual: Ids, expected: Ids): void {
  assert.deepEqual(actual.toSorted(byText), expected.toSorted(byText));
}

function byText(a: string | null, b: string | null): number {
  return String(a).localeCompare(String(b));
}

/** How many messages another reader finds once this one has closed. */
async function left(trial: SourceTrial, reader: Reader): Promise<number> {
  await reader.source.close();
  const other = await trial.reader();
  await trial.publish('last');
  await trial.until('the last one is here', () => other.ids.includes('last'));
  return other.deliveries.length - 1;
}

/** Long enough for what should not happen to happen mostly; a case that passes wrongly fails on another run. */
function aWhile(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, A_WHILE_MS));
}

function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
