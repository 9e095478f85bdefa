/**
 * The conformance suite of message sources: what every source must do, as cases that any test runner can run.
 */
import assert from 'node:assert/strict';
import { whyNot } from '../conformance/fixture.ts';
import type { RunOptions } from '../conformance/suite.ts';
import type { SourceCase } from './cases.ts';
import type { SourceFixture } from './fixture.ts';
import { SourceTrial } from './trial.ts';

export { type SourceCase, sourceCases } from './cases.ts';
export {
  defineSourceFixture,
  type SourceFixture,
  type SourceHookName,
  type SourceHooks,
  type SourceModule,
  type SourceWorld,
  sourceHookNames,
} from './fixture.ts';
export type { SourceTrial } from './trial.ts';

const DEFAULT_PATIENCE_MS = 30_000;

/** Why this case does not apply to that source, in a sentence; `null` when it does. */
export function sourceSkipReason(one: SourceCase, fixture: SourceFixture): string | null {
  for (const name of one.hooks ?? []) {
    const reason = whyNot(fixture.hooks[name]);
    if (reason !== null) return reason;
  }
  return null;
}

/** Rejects with an assertion that says what is wrong with the source. */
export async function runSourceCase(
  one: SourceCase,
  fixture: SourceFixture,
  { patienceMs = DEFAULT_PATIENCE_MS }: RunOptions = {},
): Promise<void> {
  const unhandled: unknown[] = [];
  const note = (reason: unknown): void => {
    unhandled.push(reason);
  };
  process.on('unhandledRejection', note);
  try {
    const trial = new SourceTrial(fixture, await fixture.makeWorld(), patienceMs);
    try {
      await one.run(trial);
    } finally {
      await trial.close();
    }
    // Rejections count as unhandled only after the turn in which they happened.
    await new Promise((resolve) => setImmediate(resolve));
  } finally {
    process.off('unhandledRejection', note);
  }
  assert.deepEqual(unhandled, [], 'a promise was rejected and nobody handled it');
}
