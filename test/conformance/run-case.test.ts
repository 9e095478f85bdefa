/**
 * How a case is run: what it opened is closed, whatever comes of it, and nothing that goes wrong goes unnoticed.
 */
import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { memory } from 'leasehold/memory';
import { type ConformanceCase, runCase, type StoreFixture } from 'leasehold/testing';
import { expect, test } from 'vitest';
import { memoryFixture } from './fixtures/memory.ts';

const root = fileURLToPath(new URL('../..', import.meta.url));

/** Counts what is open: worlds, and stores of theirs. */
function countingFixture(): { fixture: StoreFixture; open: { worlds: number; stores: number } } {
  const open = { worlds: 0, stores: 0 };
  const inner = memoryFixture('counting', (space) => {
    const store = memory(space);
    return {
      name: store.name,
      guarantees: store.guarantees,
      claim: (claim) => store.claim(claim),
      renew: (claims) => store.renew(claims),
      drop: (id, again) => store.drop(id, again),
      open(on) {
        open.stores += 1;
        return store.open(on);
      },
      close() {
        open.stores -= 1;
        return store.close();
      },
    };
  });
  const makeWorld: StoreFixture['makeWorld'] = async () => {
    open.worlds += 1;
    const world = await inner.makeWorld();
    const close = async (): Promise<void> => {
      open.worlds -= 1;
      await world.close();
    };
    return { ...world, close };
  };
  return { fixture: { ...inner, makeWorld }, open };
}

const failing: ConformanceCase = {
  name: 'fails with a lease in use and a waiter',
  async run(trial) {
    const [a, b] = trial.participants(2);
    await a.locks.acquire('key');
    await trial.queue(b, 'key');
    a.store.hang();
    await trial.store();
    throw new Error('as told');
  },
};

test('a failing case rejects with its own error, and leaves nothing open', async () => {
  const { fixture, open } = countingFixture();
  await expect(runCase(failing, fixture)).rejects.toThrow('as told');
  expect(open).toEqual({ worlds: 0, stores: 0 });
});

test('what never happens fails a case when its patience is over', async () => {
  const { fixture } = countingFixture();
  const impatient: ConformanceCase = {
    name: 'waits in vain',
    async run(trial) {
      await trial.until('pigs fly', () => false);
    },
  };
  const run = runCase(impatient, fixture, { patienceMs: 50 });
  await expect(run).rejects.toThrow('waited 50 ms in vain: pigs fly');
});

/** In a process of its own, since the test runner takes unhandled rejections for its own failures. */
const PROGRAM = `
  import { MemorySpace, memory } from 'leasehold/memory';
  import { runCase } from 'leasehold/testing';
  const makeWorld = async () => ({ store: () => memory(new MemorySpace()), close: async () => {} });
  const careless = { name: 'careless', run: async () => void Promise.reject(new Error('nobody cares')) };
  const error = await runCase(careless, { name: 'memory', makeWorld, hooks: {} }).catch((reason) => reason);
  process.stdout.write(String(error?.message));
`;

test('a rejection that nobody handles fails the case', async () => {
  const run = promisify(execFile);
  const { stdout } = await run(process.execPath, ['--input-type=module', '-e', PROGRAM], {
    cwd: root,
  });
  expect(stdout).toContain('a promise was rejected and nobody handled it');
});
