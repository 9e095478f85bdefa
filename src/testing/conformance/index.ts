/**
 * The conformance suite: what every store must do, as cases that any test runner can run.
 */
import { cohortCases } from './cases/cohorts.ts';
import { contractCases } from './cases/contract.ts';
import { exclusionCases } from './cases/exclusion.ts';
import { lossCases } from './cases/loss.ts';
import { lostMessageCases } from './cases/lost-messages.ts';
import { processCases } from './cases/processes.ts';
import { sharingCases } from './cases/sharing.ts';
import { tokenCases } from './cases/tokens.ts';
import type { ConformanceCase } from './suite.ts';

export {
  type CallRecord,
  FaultyStore,
  type Loss,
  LostMessageError,
  type StoreCall,
} from './faulty-store.ts';
export {
  defineFixture,
  type Hook,
  type HookName,
  hookNames,
  type KeyReport,
  type NotApplicable,
  type StoreFixture,
  type StoreHooks,
  type StoreModule,
  type StoreWorld,
} from './fixture.ts';
export { type ConformanceCase, type Need, type RunOptions, runCase, skipReason } from './suite.ts';
export type { Trial } from './trial.ts';

/** Every case, in the order in which a new store best passes them. */
export const conformanceCases: readonly ConformanceCase[] = [
  ...contractCases,
  ...lostMessageCases,
  ...exclusionCases,
  ...tokenCases,
  ...lossCases,
  ...sharingCases,
  ...cohortCases,
  ...processCases,
];
