/**
 * `leasehold/embedded`: leases and queues for the processes of one machine, in a folder, with no server to run.
 *
 * It stands on LMDB, through the `lmdb` package, which the application installs: `npm i lmdb`.
 */
import type { DeadLetters, MessageSource } from '../consumer/contracts.ts';
import type { Publisher } from '../consumer/publication.ts';
import { EmbeddedDeadLetters } from './queue/dead-letters.ts';
import {
  type EmbeddedQueueOptions,
  type EmbeddedSourceOptions,
  readQueue,
  readSource,
} from './queue/options.ts';
import { EmbeddedPublisher } from './queue/publisher.ts';
import { EmbeddedSource } from './queue/source.ts';
import { type EmbeddedOptions, EmbeddedStore } from './store.ts';

export type { EmbeddedKeyReport } from './protocol.ts';
export type { EmbeddedQueueOptions, EmbeddedSourceOptions } from './queue/options.ts';
export type { RecordsOptions } from './records/client.ts';
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
