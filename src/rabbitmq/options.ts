/**
 * The options of `rabbitmq()` and `publisher()`: their meaning, their defaults and their limits.
 */
import { InvalidArgumentError } from '../core/errors.ts';
import { checkUrls } from './client.ts';
import type { Partitions } from './partitions.ts';
import type { SenderSettings } from './sender.ts';
import { deadQueueOf, MAX_DELAY_MS, type QueueSettings } from './topology.ts';

export interface RabbitConnectOptions {
  /** `amqp://` or `amqps://`, or several of them: the nodes of one cluster. */
  readonly url: string | readonly string[];
  /** The queue's name, or `partitioned(name, count)`. */
  readonly queue: string | Partitions;
  /** Where dead letters go. Default: the queue's name and `.dead`. */
  readonly deadLetterQueue?: string;
  /**
   * Whether queues are made where they are missing. Default true. Without it they have to be there, and only the queues for
   * delays are made.
   */
  readonly declare?: boolean;
  /** How long making a connection may take, in milliseconds. Default 10,000. */
  readonly connectTimeoutMs?: number;
  /** How long the broker may take to confirm a message, in milliseconds. Default 10,000. */
  readonly confirmTimeoutMs?: number;
}

export interface RabbitSourceOptions extends RabbitConnectOptions {
  /** How many messages may be here and not settled. Default 100. */
  readonly prefetch?: number;
  /**
   * How long the first connection is tried again while the broker cannot be reached, in milliseconds; 0 tries once. Default
   * 30,000. A broker that refuses, and a queue that cannot be used, are not waited for.
   */
  readonly openTimeoutMs?: number;
  /**
   * How long queues for delays are kept after their last message was due, in milliseconds: a broker that is down for
   * longer than that may drop what waits in them. Default 7 days.
   */
  readonly delayQueueIdleMs?: number;
}

export interface ConnectionSettings extends SenderSettings, QueueSettings {
  /** For people, and for the names of other queues. */
  readonly name: string;
  readonly partitions: Partitions | null;
}

export interface SourceSettings extends ConnectionSettings {
  readonly prefetch: number;
  readonly openTimeoutMs: number;
  readonly delayPeriodMs: number;
}

const WEEK_MS = 604_800_000;
/** The broker holds the life of a queue, two of these and a little more, in 32 bits. */
const MAX_IDLE_MS = 2_000_000_000;
const MAX_PREFETCH = 65_535;
const MAX_TIMEOUT_MS = 600_000;
const MAX_OPEN_TIMEOUT_MS = 86_400_000;
/** The broker's limit is 255 bytes; the names of other queues are made from it. */
const MAX_NAME_BYTES = 180;

export function readConnection(options: RabbitConnectOptions): ConnectionSettings {
  if (typeof options !== 'object' || options === null) {
    throw new InvalidArgumentError('give an object: { url, queue }');
  }
  const { url, queue, deadLetterQueue, declare = true } = options;
  const partitions = typeof queue === 'object' && queue !== null ? queue : null;
  const name = checkName('queue', partitions === null ? queue : partitions.name);
  if (typeof declare !== 'boolean') throw new InvalidArgumentError('declare is true or false');
  return {
    urls: checkUrls(url),
    name,
    partitions,
    queues: partitions?.queues ?? [name],
    deadQueue: checkName('deadLetterQueue', deadLetterQueue ?? deadQueueOf(name)),
    hasSingleConsumer: partitions !== null,
    declare,
    connectTimeoutMs: readCount(options, 'connectTimeoutMs', 10_000, MAX_TIMEOUT_MS),
    confirmTimeoutMs: readCount(options, 'confirmTimeoutMs', 10_000, MAX_TIMEOUT_MS),
  };
}

export function readSource(options: RabbitSourceOptions): SourceSettings {
  return {
    ...readConnection(options),
    prefetch: readCount(options, 'prefetch', 100, MAX_PREFETCH),
    openTimeoutMs: readCount(options, 'openTimeoutMs', 30_000, MAX_OPEN_TIMEOUT_MS, 0),
    delayPeriodMs: readCount(options, 'delayQueueIdleMs', WEEK_MS, MAX_IDLE_MS),
  };
}

export function checkDelay(delayMs: number): void {
  if (Number.isFinite(delayMs) && delayMs >= 0 && delayMs <= MAX_DELAY_MS) return;
  throw new InvalidArgumentError(`delayMs is a number from 0 to ${MAX_DELAY_MS}`);
}

export function checkName(what: string, name: unknown): string {
  if (typeof name === 'string' && name !== '' && Buffer.byteLength(name) <= MAX_NAME_BYTES) {
    return name;
  }
  throw new InvalidArgumentError(`${what} is a name of 1 to ${MAX_NAME_BYTES} bytes`);
}

function readCount<Name extends string>(
  options: { readonly [name in Name]?: number },
  name: Name,
  fallback: number,
  most: number,
  least = 1,
): number {
  const value: number = options[name] ?? fallback;
  if (Number.isInteger(value) && value >= least && value <= most) return value;
  throw new InvalidArgumentError(`${name} is a whole number from ${least} to ${most}`);
}
