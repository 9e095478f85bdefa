/**
 * Registers every case of the suite of message sources for one fixture. A case that does not apply says why.
 */
import {
  runSourceCase,
  type SourceFixture,
  sourceCases,
  sourceSkipReason,
} from 'leasehold/testing';
import { test } from 'vitest';

export function registerSourceSuite(fixture: SourceFixture): void {
  for (const one of sourceCases) {
    test(one.name, async ({ skip }) => {
      const reason = sourceSkipReason(one, fixture);
      if (reason !== null) skip(reason);
      await runSourceCase(one, fixture);
    });
  }
}
