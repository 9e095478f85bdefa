import {
  type Engine,
  type EngineCase,
  type EngineFixture,
  engineSkipReason,
  runEngineCase,
} from 'leasehold/testing';
import { afterAll, describe } from 'vitest';
import { registerCases, type Together } from './register.ts';

/** Registers every case of a suite for one engine. */
export function registerEngineSuite<Kind extends Engine>(
  fixture: EngineFixture<Kind>,
  cases: readonly EngineCase<Kind>[],
  together: Together,
  endShared: () => Promise<void> = async () => {},
): void {
  describe(fixture.name, () => {
    afterAll(endShared);
    registerCases(cases, together, {
      skipReason: (one) => engineSkipReason(one, fixture),
      run: (one, options) => runEngineCase(one, fixture, options),
    });
  });
}
