/**
 * `leasehold/rabbitmq`: queues of RabbitMQ for the keyed consumer.
 *
 * It stands on `amqplib`, which the application installs: `npm i amqplib`.
 */
import type { DeadLetters, MessageSource } from '../consumer/contracts.ts';
import type { Publisher } from '../consumer/publication.ts';
import { RabbitDeadLetters } from './dead-letters.ts';
import {
  type RabbitConnectOptions,
  type RabbitSourceOptions,
  readConnection,
  readSource,
} from './options.ts';
import { RabbitPublisher } from './publisher.ts';
import { RabbitSource } from './source.ts';

export type { Publication, Publisher } from '../consumer/publication.ts';
export {
  type BrokerFault,
  BrokerUnavailableError,
  NotPublishedError,
  type PublishFault,
  type QueueFault,
  QueueUnusableError,
} from './errors.ts';
export type { RabbitConnectOptions, RabbitSourceOptions } from './options.ts';
export { type Partitions, partitioned } from './partitions.ts';

/**
 * A source for one consumer: a quorum queue, with a queue for its dead letters and queues for delays, which it makes
 * where they are missing. It connects when the consumer opens it, for which it waits up to `openTimeoutMs` for the broker,
 * and again by itself whenever the connection is lost; whatever was not settled by then is delivered again.
 *
 * @throws InvalidArgumentError when an option cannot be right.
 */
export function rabbitmq(options: RabbitSourceOptions): MessageSource {
  return new RabbitSource(readSource(options));
}

/**
 * Publishes into the queue of such a source. A message counts as published when the broker has it in the queue, safely;
 * it gets an id when it has none, and the time. Connects with the first message. Rejects with `NotPublishedError`, whose
 * `fault` says what is known, or with `QueueUnusableError`.
 *
 * @throws InvalidArgumentError when an option cannot be right.
 */
export function publisher(options: RabbitConnectOptions): Publisher {
  return new RabbitPublisher(readConnection(options));
}

/**
 * The dead letters of such a source. What it only looks at stays where it is.
 *
 * @throws InvalidArgumentError when an option cannot be right.
 */
export function deadLetters(options: RabbitConnectOptions): DeadLetters {
  return new RabbitDeadLetters(readConnection(options));
}
