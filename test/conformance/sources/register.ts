/**
 * Registers every case of the suite of message sources for one fixture. A case that does not apply says why.
 */
import {
  runSourceCase,
  type SourceFixture,
  sourceCases,
  sourceSkipReason,
} from 'leasehold/testing';
import { registerCases, type Together } from '../register.ts';

export function registerSourceSuite(fixture: SourceFixture, together: Together): void {
  registerCases(sourceCases, together, {
    skipReason: (one) => sourceSkipReason(one, fixture),
    run: (one, options) => runSourceCase(one, fixture, options),
  });
}
