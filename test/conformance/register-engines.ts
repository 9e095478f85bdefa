import {
  type Engine,
  type EngineCase,
  type EngineFixture,
  engineSkipReason,
  runEngineCase,
} from 'leasehold/testing';
import { afterAll, describe, test } from 'vitest';

/** Registers every case of a suite for one engine. A case that does not apply says why. */
export function registerEngineSuite<Kind extends Engine>(
  fixture: EngineFixture<Kind>,
  cases: readonly EngineCase<Kind>[],
  endShared: () => Promise<void> = async () => {},
): void {
  describe(fixture.name, () => {
    afterAll(endShared);
    for (const one of cases) {
      test(one.name, async ({ skip }) => {
        const reason = engineSkipReason(one, fixture);
        if (reason !== null) skip(reason);
        await runEngineCase(one, fixture);
      });
    }
  });
}
