/**
 * What every `Outbox` must do: nothing that was put with an answer is lost, and nobody works on what is somebody else's.
 */
import assert from 'node:assert/strict';
import type { Delivery, Envelope, Outbox } from '../../consumer/contracts.ts';
import { envelopeOf } from './samples.ts';
import type { EngineCase, EngineTrial } from './suite.ts';

type Trial = EngineTrial<Outbox>;

/** Longer than any case takes. */
const LONG_MS = 120_000;
/** Long enough that a claim can be looked at before it is over, at least on one attempt. */
const SHORT_LEASE_MS = 150;
const ALL = 10_000;

function idsOf(deliveries: readonly Delivery[]): string[] {
  return deliveries.map(({ envelope }) => envelope.id ?? 'none');
}

function envelopes(...ids: string[]): Envelope[] {
  return ids.map((id) => envelopeOf(id));
}

/** Claims until there is something. */
function obtain(
  trial: Trial,
  outbox: Outbox,
  leaseMs: number = LONG_MS,
): Promise<readonly Delivery[]> {
  return trial.until('something is due', async () => {
    const { deliveries } = await outbox.claim(ALL, leaseMs);
    return deliveries.length > 0 && deliveries;
  });
}

async function empty(trial: Trial): Promise<void> {
  const outbox = await trial.engine();
  assert.deepEqual(await outbox.claim(ALL, LONG_MS), { deliveries: [], nextDueMs: null });
  assert.deepEqual(await outbox.depth(), { entries: 0, oldestAgeMs: 0 });
  await outbox.put([], 0);
  await outbox.acknowledge([]);
  await outbox.release([]);
  await outbox.putBack([], [], 0);
}

async function keepsEverything(trial: Trial): Promise<void> {
  const [outbox, other] = [await trial.engine(), await trial.engine()];
  const bytes = Uint8Array.from({ length: 256 }, (_, byte) => byte);
  const put: Envelope[] = [
    envelopeOf('plain'),
    {
      id: 'ä\u0000雪',
      content: bytes,
      contentType: 'application/octet-stream',
      headers: { text: 'ä', list: [1, 'two', null], deep: { yes: true }, bytes },
      properties: { correlationId: 'c', priority: 3 },
      publishedAtMs: 1_700_000_000_123,
      busyCount: 2,
      failedCount: 3,
      isReplay: true,
    },
    {
      id: null,
      content: new Uint8Array(100_000),
      contentType: null,
      headers: {},
      properties: {},
      publishedAtMs: null,
      busyCount: 0,
      failedCount: 0,
      isReplay: false,
    },
  ];
  await outbox.put(put, 0);
  const { deliveries } = await other.claim(ALL, LONG_MS);
  assert.equal(deliveries.length, put.length);
  for (const envelope of put) {
    const found = deliveries.find((one) => one.envelope.id === envelope.id);
    assert(found, 'it is there under its id');
    const { content, headers, ...rest } = found.envelope;
    const { content: expected, headers: expectedHeaders, ...expectedRest } = envelope;
    assert.deepEqual({ ...rest }, expectedRest);
    assert(Buffer.from(expected).equals(content), 'the content is the same, byte for byte');
    const plain = (value: object): unknown =>
      JSON.parse(JSON.stringify(value, (_, one) => (isBytes(one) ? [...bytesOf(one)] : one)));
    assert.deepEqual(plain(headers), plain(expectedHeaders));
    assert(found.isLive());
    assert.equal(found.isRedelivered, false);
  }
}

/** A `Buffer` turns into something else before a replacer sees it. */
function isBytes(value: unknown): value is Uint8Array | { data: number[] } {
  return value instanceof Uint8Array || (value as { type?: unknown } | null)?.type === 'Buffer';
}

function bytesOf(value: Uint8Array | { data: number[] }): Iterable<number> {
  return value instanceof Uint8Array ? value : value.data;
}

async function waitsForItsTime(trial: Trial): Promise<void> {
  const outbox = await trial.engine();
  await outbox.put(envelopes('far'), LONG_MS);
  const beforeMs = performance.now();
  await outbox.put(envelopes('near'), 300);
  const first = await outbox.claim(ALL, LONG_MS);
  if (first.deliveries.length === 0) {
    assert(first.nextDueMs !== null && first.nextDueMs <= 300, 'it says when to come again');
  }
  const deliveries =
    first.deliveries.length > 0 ? first.deliveries : await obtain(trial, outbox, LONG_MS);
  // Both clocks tick in milliseconds, and need not do so together.
  assert(performance.now() - beforeMs >= 298, 'it is not due before its time');
  assert.deepEqual(idsOf(deliveries), ['near']);
  const { nextDueMs } = await outbox.claim(ALL, LONG_MS);
  assert(nextDueMs !== null && nextDueMs > 0 && nextDueMs <= LONG_MS);
}

async function longestDueFirst(trial: Trial): Promise<void> {
  const outbox = await trial.engine();
  // What is put later is due earlier, if putting does not take that long.
  for (let delayMs = 100; ; delayMs *= 2) {
    assert(delayMs <= 10_000, 'it took too long to put one entry after the other');
    const startedMs = performance.now();
    await outbox.put(envelopes('second'), delayMs);
    await outbox.put(envelopes('first'), 0);
    const isTelling = performance.now() - startedMs < delayMs;
    const claimed: string[] = [];
    await trial.until('both are due', () => performance.now() - startedMs > 2 * delayMs);
    await trial.until('both are claimed', async () => {
      const { deliveries } = await outbox.claim(1, LONG_MS);
      assert(deliveries.length <= 1, 'not more than was asked for');
      claimed.push(...idsOf(deliveries));
      await outbox.acknowledge(deliveries);
      return claimed.length === 2;
    });
    if (!isTelling) continue;
    assert.deepEqual(claimed, ['first', 'second']);
    return;
  }
}

async function nobodyElses(trial: Trial): Promise<void> {
  const [one, other] = [await trial.engine(), await trial.engine()];
  await one.put(envelopes('a', 'b', 'c'), 0);
  const { deliveries } = await one.claim(2, LONG_MS);
  assert.equal(deliveries.length, 2);
  const rest = await other.claim(ALL, LONG_MS);
  assert.equal(rest.deliveries.length, 1);
  assert.deepEqual([...idsOf(deliveries), ...idsOf(rest.deliveries)].sort(), ['a', 'b', 'c']);
  for (const outbox of [one, other]) {
    const { deliveries: nothing, nextDueMs } = await outbox.claim(ALL, LONG_MS);
    assert.deepEqual(nothing, []);
    assert(nextDueMs !== null && nextDueMs > 0, 'they may come back when their lease is over');
  }
}

async function oncePerClaimer(trial: Trial): Promise<void> {
  const workers = await Promise.all([trial.engine(), trial.engine(), trial.engine()]);
  const COUNT = 600;
  const ids = Array.from({ length: COUNT }, (_, index) => `m:${index}`);
  await (workers[0] as Outbox).put(envelopes(...ids), 0);
  const done: string[] = [];
  await Promise.all(
    workers.map(async (outbox) => {
      for (;;) {
        const { deliveries } = await trial.settles('a claim', outbox.claim(17, LONG_MS));
        if (deliveries.length === 0) return;
        done.push(...idsOf(deliveries));
        assert(done.length <= COUNT, 'an entry was claimed twice');
        await outbox.acknowledge(deliveries);
      }
    }),
  );
  assert.deepEqual([...done].sort(), [...ids].sort(), 'each once, and none is missing');
  assert.deepEqual(await (workers[1] as Outbox).depth(), { entries: 0, oldestAgeMs: 0 });
}

async function acknowledged(trial: Trial): Promise<void> {
  const outbox = await trial.engine();
  await outbox.put(envelopes('a', 'b'), 0);
  const { deliveries } = await outbox.claim(ALL, LONG_MS);
  await outbox.acknowledge(deliveries.slice(0, 1));
  await outbox.acknowledge(deliveries.slice(0, 1));
  assert.equal((await outbox.depth()).entries, 1);
  await outbox.acknowledge(deliveries);
  assert.deepEqual(await outbox.claim(ALL, LONG_MS), { deliveries: [], nextDueMs: null });
}

async function released(trial: Trial): Promise<void> {
  const [one, other] = [await trial.engine(), await trial.engine()];
  await one.put(envelopes('a', 'b'), 0);
  const { deliveries } = await one.claim(ALL, LONG_MS);
  await one.release(deliveries);
  const again = await other.claim(ALL, LONG_MS);
  assert.deepEqual(idsOf(again.deliveries).sort(), ['a', 'b']);
  assert(again.deliveries.every((delivery) => delivery.isRedelivered));
}

async function putBack(trial: Trial): Promise<void> {
  const [one, other] = [await trial.engine(), await trial.engine()];
  await one.put(envelopes('a', 'b'), 0);
  await trial.until('they have an age', async () => (await one.depth()).oldestAgeMs >= 20);
  const { deliveries } = await one.claim(ALL, LONG_MS);
  const copies = deliveries.map(({ envelope }) => ({ ...envelope, busyCount: 4 }));
  await one.putBack(deliveries, copies, LONG_MS);
  assert.deepEqual((await other.claim(ALL, LONG_MS)).deliveries, []);
  const { entries, oldestAgeMs } = await other.depth();
  assert.equal(entries, 2);
  assert(oldestAgeMs >= 20, 'they keep their age');
  await one.put(envelopes('c'), 0);
  const [next] = (await one.claim(ALL, LONG_MS)).deliveries;
  assert(next);
  await one.putBack([next], [{ ...next.envelope, busyCount: 1 }], 0);
  const [back] = (await other.claim(ALL, LONG_MS)).deliveries;
  assert.deepEqual([back?.envelope.id, back?.envelope.busyCount], ['c', 1]);
  assert.deepEqual(Buffer.from(back?.envelope.content ?? []), Buffer.from(next.envelope.content));
}

/** A worker that stopped for longer than its lease goes on, and settles what is somebody else's by now. */
async function leaseIsOver(trial: Trial): Promise<void> {
  const [late, next] = [await trial.engine(), await trial.engine()];
  await next.put(envelopes('a', 'b', 'c'), 0);
  const old = await obtain(trial, late, SHORT_LEASE_MS);
  assert.equal(old.length, 3);
  const now: Delivery[] = [];
  await trial.until('the lease is over', async () => {
    now.push(...(await next.claim(ALL, LONG_MS)).deliveries);
    return now.length === 3;
  });
  assert(now.every((delivery) => delivery.isRedelivered && delivery.isLive()));
  await trial.until('its holder knows', () => old.every((delivery) => !delivery.isLive()));
  await late.acknowledge(old.slice(0, 1));
  await late.release(old.slice(1, 2));
  const [, , third] = old as [Delivery, Delivery, Delivery];
  await late.putBack([third], [{ ...third.envelope, busyCount: 9 }], 0);
  assert.equal((await next.depth()).entries, 3, 'all three are there');
  assert.deepEqual((await late.claim(ALL, LONG_MS)).deliveries, [], 'and are not its own');
  await next.release(now);
  const { deliveries } = await next.claim(ALL, LONG_MS);
  assert.deepEqual(idsOf(deliveries).sort(), ['a', 'b', 'c']);
  assert(deliveries.every(({ envelope }) => envelope.busyCount === 0));
}

async function counts(trial: Trial): Promise<void> {
  const [one, other] = [await trial.engine(), await trial.engine()];
  await one.put(envelopes('old'), 0);
  const { deliveries } = await one.claim(1, LONG_MS);
  await trial.until('it has an age', async () => (await other.depth()).oldestAgeMs >= 30);
  await one.put(envelopes('later'), LONG_MS);
  await one.put(envelopes('due'), 0);
  const before = await other.depth();
  assert.equal(before.entries, 3, 'claimed, due and waiting ones');
  assert(before.oldestAgeMs >= 30);
  await one.acknowledge(deliveries);
  assert.equal((await other.depth()).entries, 2);
}

async function killedClaimer(trial: Trial): Promise<void> {
  const outbox = await trial.engine();
  await outbox.put(envelopes('a', 'b'), 0);
  const child = await trial.spawn();
  const claimed = await trial.settles('its claim', child.call('claim', ALL, 800));
  assert.deepEqual([...claimed].sort(), ['a', 'b']);
  await child.kill();
  const deliveries = await obtain(trial, outbox);
  assert.deepEqual(idsOf(deliveries).sort(), ['a', 'b']);
}

async function killedWriter(trial: Trial): Promise<void> {
  const done: string[] = [];
  for (let kill = 0; kill < 3; kill += 1) {
    const child = await trial.spawn();
    child.call('fill', String(kill)).catch(() => {});
    await trial.until('it has put some', () => child.done.length > 10 * kill + 5);
    await child.kill();
    done.push(...child.done);
  }
  const outbox = await trial.engine();
  const { deliveries } = await outbox.claim(ALL, LONG_MS);
  const found = new Set(idsOf(deliveries));
  assert.deepEqual(
    done.filter((id) => !found.has(id)),
    [],
    'what was answered is there',
  );
  assert(found.size <= done.length + 3, 'and at most one more of each process');
}

async function survivesRestart(trial: Trial): Promise<void> {
  const outbox = await trial.engine();
  await outbox.put(envelopes('due', 'claimed'), 0);
  await outbox.put(envelopes('later'), 1_000);
  await outbox.claim(1, 1_000);
  await trial.restart();
  const again = await trial.engine();
  assert.equal((await again.depth()).entries, 3);
  const found: Delivery[] = [];
  await trial.until('all come back', async () => {
    found.push(...(await again.claim(ALL, LONG_MS)).deliveries);
    return found.length === 3;
  });
  assert.deepEqual(idsOf(found).sort(), ['claimed', 'due', 'later']);
}

async function closes(trial: Trial): Promise<void> {
  const outbox = await trial.engine();
  await outbox.put(envelopes('a'), 0);
  await outbox.close();
  await outbox.close();
  const again = await trial.engine();
  assert.deepEqual(idsOf((await again.claim(ALL, LONG_MS)).deliveries), ['a']);
}

/** Every case, in the order in which a new outbox best passes them. */
export const outboxCases: readonly EngineCase<Outbox>[] = [
  { name: 'an empty outbox has nothing', run: empty },
  { name: 'an envelope comes back as it was put', run: keepsEverything },
  { name: 'an entry waits for its time', run: waitsForItsTime },
  { name: 'the longest due comes first, and no more than was asked for', run: longestDueFirst },
  { name: 'a claimed entry is nobody else’s', run: nobodyElses },
  { name: 'claimers never share an entry', run: oncePerClaimer },
  { name: 'an acknowledged entry is gone', run: acknowledged },
  { name: 'a released entry is due at once, for anybody', run: released },
  { name: 'an entry that is put back waits again, and keeps its age', run: putBack },
  { name: 'whose lease is over changes nothing any more', run: leaseIsOver },
  { name: 'depth counts what is due, waiting and claimed', run: counts },
  {
    name: 'what a killed process had claimed comes back',
    run: killedClaimer,
    hooks: ['processes'],
  },
  {
    name: 'a process killed while it puts loses nothing that was answered',
    run: killedWriter,
    hooks: ['processes'],
  },
  { name: 'entries outlive a restart', run: survivesRestart, hooks: ['restart'] },
  { name: 'entries outlive whoever put them, and closing again does nothing', run: closes },
];
