/**
 * What the two halves of the embedded store say to each other: the store on the caller's thread, and the engine on a
 * thread of its own.
 */
import type {
  Claim,
  ClaimId,
  ClaimOutcome,
  DropOutcome,
  RenewOutcome,
  StoreEvent,
} from '../core/store.ts';

/** What stands in the folder for one key, by owner value, in order of grant and of arrival. */
export interface EmbeddedKeyReport {
  readonly key: string;
  readonly capacity: number;
  readonly holders: readonly string[];
  readonly waiters: readonly string[];
}

export type Call =
  | { readonly is: 'claim'; readonly claim: Claim }
  | { readonly is: 'renew'; readonly claims: readonly Claim[] }
  | { readonly is: 'drop'; readonly id: ClaimId; readonly again: Claim | undefined }
  | { readonly is: 'inspect'; readonly after: string | null };

export type Answer =
  | ClaimOutcome
  | readonly RenewOutcome[]
  | DropOutcome
  | readonly EmbeddedKeyReport[];

/** As many keys are reported in one answer; fewer mean that there are no more. */
export const KEYS_A_REPORT = 500;

/** The calls of one turn, which the engine makes in one transaction and answers in the same order. */
export interface Batch<SomeCall> {
  readonly is: 'batch';
  readonly id: number;
  readonly calls: readonly SomeCall[];
}

export type ToEngine<SomeCall> = Batch<SomeCall> | { readonly is: 'close' };

export type FromEngine<SomeAnswer> =
  | { readonly is: 'opened' }
  | { readonly is: 'failed'; readonly error: Error }
  | { readonly is: 'answers'; readonly id: number; readonly answers: readonly SomeAnswer[] }
  | { readonly is: 'error'; readonly id: number; readonly error: Error }
  | { readonly is: 'event'; readonly event: StoreEvent };

/** What the engine's thread is started with. */
export interface EngineData {
  readonly path: string;
  /** Shared memory of the exit guard. */
  readonly guard: SharedArrayBuffer;
}
