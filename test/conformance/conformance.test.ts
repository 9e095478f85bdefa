/**
 * Registers every case of the suite for every store. A case that a store skips says why.
 */
import { conformanceCases, runCase, skipReason } from 'leasehold/testing';
import { describe, test } from 'vitest';
import { fixtures } from './fixtures/index.ts';

for (const fixture of fixtures) {
  describe(`the ${fixture.name} store`, () => {
    for (const one of conformanceCases) {
      test(one.name, async ({ skip }) => {
        const reason = await skipReason(one, fixture);
        if (reason !== null) skip(reason);
        await runCase(one, fixture);
      });
    }
  });
}
