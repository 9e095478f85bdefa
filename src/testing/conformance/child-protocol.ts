/**
 * What the suite asks of a process that it started, and what that process answers.
 */

import type { LeaseState } from '../../core/lease.ts';
import type { AcquireOptions, LockManagerOptions } from '../../core/options.ts';
import type { StoreModule } from './fixture.ts';

/** The first message to the process. */
export interface ChildStart {
  readonly store: StoreModule;
  readonly options: Omit<LockManagerOptions, 'store'>;
}

/** Options of an acquire that can travel as JSON. */
export type ChildAcquireOptions = Omit<AcquireOptions, 'signal'>;

export interface LeaseReport {
  readonly state: LeaseState;
  /** Whether `assertHeld` passes. */
  readonly isHeld: boolean;
  readonly isAborted: boolean;
}

/** Every command: its arguments and its answer. Leases are known by a name that the parent chooses. */
export interface ChildCommands {
  acquire(lease: string, key: string, options: ChildAcquireOptions): Promise<string>;
  release(lease: string): Promise<null>;
  report(lease: string): Promise<LeaseReport>;
  /** Answers right after the next claim of the key that was answered with "waiting". */
  queued(key: string): Promise<null>;
  /** Adds one to the number in a file, unprotected but for the lock; answers the tokens in the order of use. */
  increment(key: string, file: string, task: { tasks: number; rounds: number }): Promise<string[]>;
  /** Closes the manager. The process must end by itself then. */
  close(): Promise<null>;
}

export type ChildCommand = keyof ChildCommands;

export interface ChildRequest {
  readonly id: number;
  readonly command: ChildCommand;
  readonly args: readonly unknown[];
}

export type ChildReply =
  | { readonly id: 'ready' }
  | { readonly id: number; readonly value: unknown }
  | { readonly id: number; readonly error: { readonly name: string; readonly message: string } };
