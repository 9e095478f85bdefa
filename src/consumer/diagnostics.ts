/**
 * What the consumer tells whoever listens, on `node:diagnostics_channel`. A payload is made only when a channel has a
 * subscriber, and holds no body of a message.
 *
 * | channel                            | payload                | when                                            |
 * |------------------------------------|------------------------|-------------------------------------------------|
 * | `leasehold:consumer:batch`         | `BatchMessage`         | messages of a key were applied, or handled      |
 * | `leasehold:consumer:busy`          | `BusyMessage`          | a lock was not got in time                      |
 * | `leasehold:consumer:failed`        | `FailedMessage`        | a handler threw for one message                 |
 * | `leasehold:consumer:dead-lettered` | `DeadLetteredMessage`  | messages went to where people look for them     |
 * | `leasehold:consumer:setback`       | `SetbackMessage`       | messages of a key have to be worked on again    |
 * | `leasehold:consumer:engine-error`  | `EngineErrorMessage`   | a call to an engine was not answered            |
 */
import { channel } from 'node:diagnostics_channel';
import type { DeadLetterReason } from './contracts.ts';

export interface BatchMessage {
  readonly key: string;
  readonly token: bigint;
  /** How many messages took effect. */
  readonly messages: number;
  /** The state was in memory already. */
  readonly isKept: boolean;
}

export interface BusyMessage {
  readonly key: string;
  readonly messages: number;
  /** Says who holds the lock. */
  readonly cause: unknown;
}

export interface FailedMessage {
  readonly key: string;
  readonly id: string;
  /** How often it has failed, this time included. */
  readonly failedCount: number;
  readonly cause: unknown;
}

export interface DeadLetteredMessage {
  readonly ids: readonly (string | null)[];
  readonly reason: DeadLetterReason;
  readonly detail: string;
}

/**
 * - `stale`: somebody with a higher token was here.
 * - `lost`: the lease ended before the work was done.
 * - `moved`: the state was changed by somebody under the same lease.
 */
export type Setback = 'stale' | 'lost' | 'moved';

export interface SetbackMessage {
  readonly key: string;
  readonly token: bigint;
  readonly setback: Setback;
}

export type EngineOperation =
  | 'open'
  | 'acquire'
  | 'load'
  | 'look'
  | 'commit'
  | 'acknowledge'
  | 'release'
  | 'republish'
  | 'put'
  | 'put-back'
  | 'mark-dead'
  | 'dead-letter'
  | 'claim'
  | 'depth'
  | 'stop'
  | 'close';

export interface EngineErrorMessage {
  readonly operation: EngineOperation;
  readonly cause: unknown;
}

/** The channels' names, for `node:diagnostics_channel`'s `subscribe`. */
export const CONSUMER_CHANNELS = {
  batch: 'leasehold:consumer:batch',
  busy: 'leasehold:consumer:busy',
  failed: 'leasehold:consumer:failed',
  deadLettered: 'leasehold:consumer:dead-lettered',
  setback: 'leasehold:consumer:setback',
  engineError: 'leasehold:consumer:engine-error',
} as const;

interface Publisher<Payload> {
  readonly hasSubscribers: boolean;
  publish(message: Payload): void;
}

export const batch: Publisher<BatchMessage> = channel(CONSUMER_CHANNELS.batch);
export const busy: Publisher<BusyMessage> = channel(CONSUMER_CHANNELS.busy);
export const failed: Publisher<FailedMessage> = channel(CONSUMER_CHANNELS.failed);
export const deadLettered: Publisher<DeadLetteredMessage> = channel(CONSUMER_CHANNELS.deadLettered);
export const setback: Publisher<SetbackMessage> = channel(CONSUMER_CHANNELS.setback);
export const engineError: Publisher<EngineErrorMessage> = channel(CONSUMER_CHANNELS.engineError);
