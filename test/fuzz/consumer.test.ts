/** Whatever a message is, and whatever the functions of its consumer do: it is applied, or a person finds it. */
import fc from 'fast-check';
import { LockManager } from 'leasehold';
import { consume, retry } from 'leasehold/consumer';
import { MemoryQueue, memory, memorySource, memoryState } from 'leasehold/memory';
import { expect, test } from 'vitest';
import { anyValue } from './arbitraries.ts';
import { nothingEscapes, typedErrorOf } from './settled.ts';

nothingEscapes();

const anyContent = fc.oneof(
  fc.constantFrom<string>('{}', '{"account":"maria","amount":1}', '{"account":5}', '[]', 'null'),
  fc.constantFrom<string>('', '\0', '{"account":"', '{"__proto__":{"account":"x"}}', '1e999'),
  fc.json(),
  fc.string({ unit: 'binary' }),
  fc.uint8Array({ maxLength: 100 }),
);
const anyMessage = fc.record(
  {
    content: anyContent,
    id: fc.option(fc.oneof(fc.constantFrom('', 'a', 'b'), fc.string(), fc.jsonValue())),
    publishedAtMs: fc.option(fc.oneof(fc.double(), fc.constant(Date.now()), fc.jsonValue())),
    headers: fc.dictionary(fc.string(), fc.jsonValue()),
    contentType: fc.string(),
  },
  { requiredKeys: ['content'] },
);

/** A function of the caller's that returns or throws anything, now or later. */
const anyFunction = anyValue.chain((value) =>
  fc.constantFrom<() => unknown>(
    () => value,
    () => {
      throw value;
    },
    async () => value,
    async () => {
      throw value;
    },
  ),
);
const NAMES = ['keyOf', 'lockName', 'decode', 'idOf', 'publishedAtOf', 'reduce'] as const;
const anyFunctions = fc.oneof(
  fc.constant({}),
  fc.tuple(fc.constantFrom(...NAMES), anyFunction).map(([name, run]) => ({ [name]: run })),
);

interface Body {
  readonly account: string;
  readonly amount: number;
}

async function settle(queue: MemoryQueue): Promise<void> {
  for (let looks = 0; ; looks += 1) {
    const { ready, unsettled, delayed } = queue.depth;
    if (ready + unsettled + delayed === 0) return;
    if (looks > 2_000) expect.fail(`not settled: ${JSON.stringify(queue.depth)}`);
    await new Promise((resolve) => setTimeout(resolve, looks < 20 ? 0 : 10));
  }
}

interface Trial {
  readonly messages: readonly object[];
  readonly functions: Readonly<Record<string, unknown>>;
}

async function run(how: 'reduce' | 'handle', { messages, functions }: Trial): Promise<void> {
  const queue = new MemoryQueue();
  const { reduce, ...others } = functions;
  const work =
    how === 'reduce'
      ? {
          state: memoryState(),
          reduce: (_: unknown, all: readonly unknown[]) => all.length,
          ...functions,
        }
      : { handle: reduce ?? ((): void => {}), ...others };
  const consumer = consume({
    source: memorySource(queue),
    locks: new LockManager({ store: memory() }),
    keyOf: ({ body }: { body: Body }) => body.account,
    onFailed: retry({ maxAttempts: 1 }),
    ...work,
  } as never);
  await consumer.ready;
  let published = 0;
  for (const message of messages) {
    if (!(await typedErrorOf(() => queue.publish(message as never)))) published += 1;
  }
  await settle(queue);
  const { delivered, applied, duplicates, deadLettered } = consumer.metrics();
  const dead = Object.values(deadLettered).reduce((sum, count) => sum + count, 0);
  expect(delivered).toBe(published);
  expect(applied + duplicates + dead).toBe(published);
  await consumer.stop({ graceMs: 0 });
}

test.each(['reduce', 'handle'] as const)('messages of any kind: %s', async (how) => {
  const trial = fc.record({
    messages: fc.array(anyMessage, { minLength: 1, maxLength: 8 }),
    functions: anyFunctions,
  });
  const property = fc.asyncProperty(
    fc.array(trial, { minLength: 20, maxLength: 20 }),
    async (trials) => {
      await Promise.all(trials.map((one) => run(how, one)));
    },
  );
  await fc.assert(property, { numRuns: 20, endOnFailure: true });
});

test('a function that must not be async is said to be', async () => {
  const queue = new MemoryQueue();
  const locks = new LockManager({ store: memory() });
  const later = async (): Promise<string> => Promise.reject(new Error('too late'));
  const source = memorySource(queue);
  const consumer = consume({ source, locks, keyOf: later as never, handle: () => {} });
  await consumer.ready;
  await queue.publish({ content: '{}' });
  await settle(queue);
  const [letter] = await queue.deadLetters().list(1);
  expect(letter).toMatchObject({
    reason: 'no-key',
    detail: expect.stringContaining('must not be async'),
  });
  await consumer.stop();
  await locks.close();
});
