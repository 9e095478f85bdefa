/**
 * The suites catch states and outboxes that are wrong. A case that passes on one which breaks what it is about proves
 * nothing.
 */
import {
  type Engine,
  type EngineCase,
  type EngineFixture,
  outboxCases,
  runEngineCase,
  stateCases,
} from 'leasehold/testing';
import { describe, expect, test } from 'vitest';
import { brokenOutbox, brokenOutboxes, brokenState, brokenStates } from './broken-engines.ts';

/** Cases that fail by waiting need all of it; none of them can pass by having more. */
const PATIENCE_MS = 4_000;

async function isCaught<Kind extends Engine>(
  cases: readonly EngineCase<Kind>[],
  name: string,
  fixture: EngineFixture<Kind>,
): Promise<void> {
  const found = cases.find((one) => one.name === name);
  if (!found) throw new Error(`no case of the suite is called '${name}'`);
  const run = runEngineCase(found, fixture, { patienceMs: PATIENCE_MS });
  await expect(run).rejects.toThrow();
}

describe.concurrent.each(brokenStates)('a state store that $name', (broken) => {
  test.each(broken.caughtBy)('is caught by: %s', async (name) => {
    await isCaught(stateCases, name, brokenState(broken));
  });
});

describe.concurrent.each(brokenOutboxes)('an outbox that $name', (broken) => {
  test.each(broken.caughtBy)('is caught by: %s', async (name) => {
    await isCaught(outboxCases, name, brokenOutbox(broken));
  });
});
