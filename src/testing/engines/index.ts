/**
 * The conformance suites for states and outboxes: what the engines of a keyed consumer must do, as cases that any test
 * runner can run.
 */
export { outboxCases } from './outboxes.ts';
export { stateCases } from './states.ts';
export {
  type BesideLocks,
  defineEngineFixture,
  type Engine,
  type EngineCase,
  type EngineFixture,
  type EngineHookName,
  type EngineHooks,
  EngineTrial,
  type EngineWorld,
  engineHookNames,
  engineSkipReason,
  runEngineCase,
  type WorldSettings,
} from './suite.ts';
