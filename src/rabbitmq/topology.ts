/**
 * The queues of one source: those that it delivers from, where dead letters go, and where copies wait for their delay.
 *
 * All are quorum queues. By default a broker drops a message on its way to a dead-letter exchange when it cannot be put
 * there at once; here such messages stay where they are until they can (`at-least-once`, which needs `reject-publish`).
 */
import type { AmqpChannel } from './client.ts';
import { QueueUnusableError, queueFault } from './errors.ts';

/** Sent on to another queue through the default exchange, and kept until that one has it. */
function sendingOnTo(queue: string): Readonly<Record<string, unknown>> {
  return {
    'x-queue-type': 'quorum',
    'x-overflow': 'reject-publish',
    'x-dead-letter-exchange': '',
    'x-dead-letter-routing-key': queue,
    'x-dead-letter-strategy': 'at-least-once',
  };
}

/** Brokers from 4.0 on drop what was given back twenty times, unless told otherwise; whoever lists gives back. */
const ENDLESS_DELIVERIES = 1_000_000_000;

export function deadQueueOf(queue: string): string {
  return `${queue}.dead`;
}

export interface QueueSettings {
  /** The queues to deliver from. */
  readonly queues: readonly string[];
  readonly deadQueue: string;
  /** Whether a key of one process at a time is wanted: one consumer of each queue is active. */
  readonly hasSingleConsumer: boolean;
  /** Whether to make them; otherwise they only have to be there. */
  readonly declare: boolean;
}

/** Makes the queues, or looks whether they are there. Ends the channel when it rejects. */
export async function prepareQueues(channel: AmqpChannel, settings: QueueSettings): Promise<void> {
  const { queues, deadQueue, hasSingleConsumer, declare } = settings;
  const deadArguments = {
    'x-queue-type': 'quorum',
    'x-overflow': 'reject-publish',
    'x-delivery-limit': ENDLESS_DELIVERIES,
  };
  const mainArguments = {
    ...sendingOnTo(deadQueue),
    ...(hasSingleConsumer && { 'x-single-active-consumer': true }),
  };
  for (const queue of queues) await prepareQueue(channel, queue, declare, mainArguments);
  await prepareQueue(channel, deadQueue, declare, deadArguments);
}

async function prepareQueue(
  channel: AmqpChannel,
  queue: string,
  declare: boolean,
  args: Readonly<Record<string, unknown>>,
): Promise<void> {
  try {
    if (declare) await channel.assertQueue(queue, { durable: true, arguments: args });
    else await channel.checkQueue(queue);
  } catch (error) {
    const fault = queueFault(error);
    throw fault === null ? error : new QueueUnusableError(queue, fault, error);
  }
}

/** Delays go up to the next of these, in every power of ten: a jittered back-off makes a handful of queues. */
const STEPS = [1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10];
export const MIN_DELAY_MS = 10;
export const MAX_DELAY_MS = 86_400_000;

export function roundDelay(delayMs: number): number {
  const wanted = Math.min(Math.max(delayMs, MIN_DELAY_MS), MAX_DELAY_MS);
  const power = 10 ** Math.floor(Math.log10(wanted));
  const step = STEPS.find((one) => Math.round(one * power) >= wanted) ?? 10;
  return Math.min(Math.round(step * power), MAX_DELAY_MS);
}

/**
 * How old a queue is when it is finished and written down for good, in milliseconds: nothing is put into a younger one.
 * By far more than it takes (docs/adr/0098).
 */
export const GROWN_UP_MS = 5_000;

export interface DelayQueue {
  readonly name: string;
  readonly arguments: Readonly<Record<string, unknown>>;
}

/**
 * The queue in which copies wait for this long, one for each delay: in one queue for all, short delays would wait behind
 * long ones.
 *
 * It expires by itself, with whatever is in it, a fixed time after it was made: declaring a quorum queue again does not
 * prolong its life. So its name changes once in each period, and it outlives its last message by another period. A
 * broker that is down for longer than that may drop what waits.
 */
export function delayQueue(
  queue: string,
  delayMs: number,
  periodMs: number,
  nowMs: number,
): DelayQueue {
  const rounded = roundDelay(delayMs);
  const period = Math.floor(nowMs / periodMs);
  return {
    name: `${queue}.delay.${rounded}.${periodMs}.${period}`,
    arguments: {
      ...sendingOnTo(queue),
      'x-message-ttl': rounded,
      'x-expires': GROWN_UP_MS + periodMs + rounded + periodMs,
    },
  };
}
