/**
 * `leasehold/embedded`: leases, queues and states for the processes of one machine, in a folder, with no server to run.
 *
 * It stands on LMDB, through the `lmdb` package, which the application installs: `npm i lmdb`.
 */
import type { DeadLetters, MessageSource, Outbox, StateStore } from '../consumer/contracts.ts';
import type { Publisher } from '../consumer/publication.ts';
import { EmbeddedOutbox, type EmbeddedOutboxOptions } from './outbox/outbox.ts';
import { EmbeddedDeadLetters } from './queue/dead-letters.ts';
import {
  type EmbeddedQueueOptions,
  type EmbeddedSourceOptions,
  readQueue,
  readSource,
} from './queue/options.ts';
import { EmbeddedPublisher } from './queue/publisher.ts';
import { EmbeddedSource } from './queue/source.ts';
import { EmbeddedState, type EmbeddedStateOptions } from './state/store.ts';
import { type EmbeddedOptions, EmbeddedStore } from './store.ts';

export type { EmbeddedOutboxOptions } from './outbox/outbox.ts';
export type { EmbeddedKeyReport } from './protocol.ts';
export type { EmbeddedQueueOptions, EmbeddedSourceOptions } from './queue/options.ts';
export type { RecordsOptions } from './records/client.ts';
export type { EmbeddedStateOptions } from './state/store.ts';
export type { EmbeddedOptions, EmbeddedStore } from './store.ts';

/**
 * A store for one `LockManager`. Managers, in this process or another one of the machine, exclude each other when their
 * stores have the same folder. Nothing is opened before the manager's first call.
 *
 * @throws InvalidArgumentError when the path or a time cannot be right.
 */
export function embedded(options: EmbeddedOptions): EmbeddedStore {
  return new EmbeddedStore(options);
}

/**
 * A queue in a folder as a source of messages for the keyed consumer. What a process that was killed had not settled is
 * delivered again, to the others, within a quarter of a second. The machine may fail as well: messages are on the disk.
 *
 * @throws InvalidArgumentError when an option cannot be right.
 */
export function embeddedSource(options: EmbeddedSourceOptions): MessageSource {
  return new EmbeddedSource(readSource(options));
}

/** Publishes into such a queue; resolves when the message is on the disk. It opens the folder with the first message. */
export function embeddedPublisher(options: EmbeddedQueueOptions): Publisher {
  return new EmbeddedPublisher(readQueue(options));
}

/** The dead letters of such a queue. A replay is one step: a letter is never both there and in the queue. */
export function embeddedDeadLetters(options: EmbeddedQueueOptions): DeadLetters {
  return new EmbeddedDeadLetters(readQueue(options));
}

/**
 * States for the keyed consumer, each with a fence and the ids of the messages that were applied to it. A commit is on the
 * disk when it is answered; those that are made meanwhile share the next wait for the disk.
 *
 * @throws InvalidArgumentError when an option cannot be right.
 */
export function embeddedState(options: EmbeddedStateOptions): StateStore {
  return new EmbeddedState(options);
}

/**
 * An outbox for the keyed consumer: messages that did not get their lock in time, until they are due again.
 *
 * @throws InvalidArgumentError when an option cannot be right.
 */
export function embeddedOutbox(options: EmbeddedOutboxOptions): Outbox {
  return new EmbeddedOutbox(options);
}
