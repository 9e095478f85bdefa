/**
 * Registers every case of the suite for the Redlock store on three and on five masters. A case that does not apply says
 * why.
 */
import { conformanceCases, runCase, skipReason } from 'leasehold/testing';
import { afterAll, describe, test } from 'vitest';
import { lane, TOOLS } from '../servers/require.ts';
import { redlockFixtures } from './fixtures/redlock.ts';

lane('conformance of Redlock', TOOLS.redis, () => {
  for (const { fixture, endShared } of redlockFixtures) {
    describe(fixture.name, () => {
      afterAll(endShared);
      for (const one of conformanceCases) {
        test(one.name, async ({ skip }) => {
          const reason = await skipReason(one, fixture);
          if (reason !== null) skip(reason);
          await runCase(one, fixture);
        });
      }
    });
  }
});
