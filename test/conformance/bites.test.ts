/**
 * The suite catches stores that are wrong. A case that passes on a store which breaks what it is about proves nothing.
 */
import { memory } from 'leasehold/memory';
import { type ConformanceCase, conformanceCases, runCase } from 'leasehold/testing';
import { describe, expect, test } from 'vitest';
import { breakStore, brokenStores } from './broken-stores.ts';
import { memoryFixture } from './fixtures/memory.ts';

/** Cases that fail need all of it; none of them can pass by having more. */
const PATIENCE_MS = 1_000;

function caseOf(name: string): ConformanceCase {
  const found = conformanceCases.find((one) => one.name === name);
  if (!found) throw new Error(`no case of the suite is called '${name}'`);
  return found;
}

describe.concurrent.each(brokenStores)('a store that $name', ({ name, caughtBy, methods }) => {
  const fixture = memoryFixture(name, (space) => breakStore(memory(space), space, methods));

  test.each(caughtBy)('is caught by: %s', async (caseName) => {
    const run = runCase(caseOf(caseName), fixture, { patienceMs: PATIENCE_MS });
    await expect(run).rejects.toThrow();
  });
});
