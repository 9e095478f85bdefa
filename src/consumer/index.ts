/**
 * `leasehold/consumer`: messages by key, one lock for each key, and a state that every message changes exactly once.
 */
export { type Consumer, consume, type StopOptions } from './consume.ts';
export type {
  Commit,
  CommitMessage,
  CommitOutcome,
  DeadLetter,
  DeadLetterNote,
  DeadLetterReason,
  DeadLetters,
  Delivery,
  DeliveryOrigin,
  ElidedCommit,
  ElidedCommitOutcome,
  Elision,
  Envelope,
  LoadOutcome,
  LookOutcome,
  Mark,
  MessageSource,
  Outbox,
  OutboxDepth,
  Sight,
  SourceEvents,
  StateStore,
} from './contracts.ts';
export {
  type BatchMessage,
  type BusyMessage,
  CONSUMER_CHANNELS,
  type DeadLetteredMessage,
  type EngineErrorMessage,
  type EngineOperation,
  type FailedMessage,
  type Setback,
  type SetbackMessage,
} from './diagnostics.ts';
export type { Incoming, Message } from './message.ts';
export { type ConsumerMetrics, LATENCY_BOUNDS_MS } from './metrics.ts';
export type { HandleOptions, ReduceOptions, StateCodec } from './options.ts';
export {
  type AttemptOptions,
  type BusyPolicy,
  type FailedPolicy,
  type OutboxOptions,
  outbox,
  republish,
  retry,
} from './policies.ts';
export type { Publication, Publisher } from './publication.ts';
