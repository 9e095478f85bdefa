import { conformanceCases, runCase, type StoreFixture, skipReason } from 'leasehold/testing';
import { describe, test } from 'vitest';

/**
 * Registers every case of the suite for one store. A case that the store skips says why. Concurrent cases save the time
 * in which they wait for expiries; an unhandled rejection then fails all that run at that moment.
 */
export function registerSuite(fixture: StoreFixture, { concurrent = false } = {}): void {
  describe(`the ${fixture.name} store`, { concurrent }, () => {
    for (const one of conformanceCases) {
      test(one.name, async ({ skip }) => {
        const reason = await skipReason(one, fixture);
        if (reason !== null) skip(reason);
        await runCase(one, fixture);
      });
    }
  });
}
