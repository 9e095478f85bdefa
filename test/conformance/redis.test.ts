/**
 * Registers every case of the suite for the Redis store in each of its worlds. A case that does not apply says why.
 */
import { conformanceCases, runCase, skipReason } from 'leasehold/testing';
import { afterAll, describe, test } from 'vitest';
import { lane, TOOLS } from '../servers/require.ts';
import { redisFixtures } from './fixtures/redis.ts';

lane('conformance of Redis', TOOLS.redis, () => {
  for (const { fixture, endShared } of redisFixtures) {
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
