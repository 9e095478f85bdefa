/**
 * One queue as several, so that the messages of one key are always in the same one, which one process at a time reads.
 */
import { createHash } from 'node:crypto';
import { InvalidArgumentError } from '../core/errors.ts';

const MAX_PARTITIONS = 256;

/** Several queues that are used as one. */
export interface Partitions {
  readonly name: string;
  /** In the order of their numbers. */
  readonly queues: readonly string[];
  /** The exchange that spreads keys over them, where the broker can. */
  readonly exchange: string;
  /** An empty queue whose consumers are counted: so everybody knows its share. */
  readonly members: string;
  /** The queue of this key, where the publisher spreads them. */
  queueFor(key: string): string;
}

/**
 * A queue in so many parts, `name.0` and following, each with one active consumer at a time. Give it to `rabbitmq()`,
 * `publisher()` and the dead letters in place of the queue's name, with the same count everywhere, for good.
 */
export function partitioned(name: string, count: number): Partitions {
  if (typeof name !== 'string' || name === '') {
    throw new InvalidArgumentError('the name of a partitioned queue is text');
  }
  if (!Number.isInteger(count) || count < 1 || count > MAX_PARTITIONS) {
    throw new InvalidArgumentError(
      `the count of partitions is a whole number from 1 to ${MAX_PARTITIONS}`,
    );
  }
  const queues = Array.from({ length: count }, (_, index) => `${name}.${index}`);
  return {
    name,
    queues,
    exchange: `${name}.keys`,
    members: `${name}.members`,
    queueFor: (key) => queues[hash(key) % count] as string,
  };
}

/** 32 bits of a hash that every language has, so that others can publish to the right queue as well. */
function hash(key: string): number {
  return createHash('md5').update(key, 'utf8').digest().readUInt32BE(0);
}
