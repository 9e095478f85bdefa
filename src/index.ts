/// <reference lib="esnext.disposable" preserve="true" />

export { type Clock, systemClock, type Timer } from './core/clock.ts';
export {
  type AcquiredMessage,
  CHANNELS,
  type LostMessage,
  type ReleasedMessage,
  type StoreErrorMessage,
} from './core/diagnostics.ts';
export {
  AcquireTimeoutError,
  ClaimRefusedError,
  type ErrorCode,
  InvalidArgumentError,
  LeaseholdError,
  LeaseLostError,
  type LossReason,
  ManagerClosedError,
  StoreUnavailableError,
} from './core/errors.ts';
export type { Holding, Lease, LeaseSet, LeaseState } from './core/lease.ts';
export { LockManager, type Usage } from './core/manager.ts';
export type {
  AcquireOptions,
  CloseOptions,
  FairnessOptions,
  LockManagerOptions,
  LockOptions,
  TryAcquireOptions,
} from './core/options.ts';
export {
  type Claim,
  type ClaimId,
  type ClaimOutcome,
  type DropOutcome,
  type Grant,
  type Guarantees,
  type LeaseStore,
  type RefusalReason,
  type RenewOutcome,
  SHARED_CAPACITY,
  type StoreEvent,
  type Waiting,
} from './core/store.ts';
