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
  test.each(sourceCases)('$name', async (one) => {
    const reason = sourceSkipReason(one, fixture);
    if (reason === null) await runSourceCase(one, fixture);
  });
}
