/**
 * What the core tells whoever listens, on `node:diagnostics_channel`. A payload is made only when a channel has a
 * subscriber. No payload holds a secret or a connection string of this package; `cause` is the engine's own error.
 *
 * | channel                 | payload              | when                                                |
 * |-------------------------|----------------------|-----------------------------------------------------|
 * | `leasehold:acquired`    | `AcquiredMessage`    | a caller got a lease                                |
 * | `leasehold:released`    | `ReleasedMessage`    | a caller gave a lease back                          |
 * | `leasehold:lost`        | `LostMessage`        | a lease ended before it was released                |
 * | `leasehold:store-error` | `StoreErrorMessage`  | a call to the store ended without an answer         |
 */
import { channel } from 'node:diagnostics_channel';
import type { LossReason } from './errors.ts';

export interface AcquiredMessage {
  readonly key: string;
  /** Its low twelve bits count the grants without I/O since the key came to this process. */
  readonly token: bigint;
  /** From the call to the lease, in milliseconds; `null` when nobody listened yet at the call. */
  readonly waitedMs: number | null;
}

export interface ReleasedMessage {
  readonly key: string;
  readonly token: bigint;
}

export interface LostMessage {
  readonly key: string;
  readonly token: bigint;
  readonly reason: LossReason;
}

export interface StoreErrorMessage {
  readonly store: string;
  /** The store is opened by the first of them. */
  readonly operation: 'claim' | 'renew' | 'drop' | 'close';
  readonly cause: unknown;
}

/** The channels' names, for `node:diagnostics_channel`'s `subscribe`. */
export const CHANNELS = {
  acquired: 'leasehold:acquired',
  released: 'leasehold:released',
  lost: 'leasehold:lost',
  storeError: 'leasehold:store-error',
} as const;

/** A channel that only this package's types can publish on. */
interface Publisher<Message> {
  readonly hasSubscribers: boolean;
  publish(message: Message): void;
}

export const acquired: Publisher<AcquiredMessage> = channel(CHANNELS.acquired);
export const released: Publisher<ReleasedMessage> = channel(CHANNELS.released);
export const lost: Publisher<LostMessage> = channel(CHANNELS.lost);
export const storeError: Publisher<StoreErrorMessage> = channel(CHANNELS.storeError);
