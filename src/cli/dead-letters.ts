/**
 * What the commands for dead letters have in common: where the queue is, and which letters are meant.
 */
import type { DeadLetter, DeadLetters } from '../consumer/contracts.ts';
import { InvalidArgumentError } from '../core/errors.ts';
import { embeddedDeadLetters } from '../embedded/index.ts';
import { deadLetters as rabbitDeadLetters } from '../rabbitmq/index.ts';
import { type Call, UsageError } from './command.ts';

export const QUEUE_USAGE =
  '(--amqp URL | --path FOLDER) --queue NAME [--dead-letter-queue NAME] [--id ID] [--reason REASON]';

export const QUEUE_OPTIONS = {
  amqp: { type: 'string' },
  path: { type: 'string' },
  queue: { type: 'string' },
  'dead-letter-queue': { type: 'string' },
  id: { type: 'string', multiple: true },
  reason: { type: 'string', multiple: true },
  json: { type: 'boolean' },
} as const;

/** Opens what the options say, and closes it whatever happens. */
export async function withDeadLetters(
  call: Call,
  work: (letters: DeadLetters) => Promise<void>,
): Promise<void> {
  if (call.operands.length > 0) throw new UsageError('it takes options only');
  const letters = open(call.options);
  try {
    await work(letters);
  } finally {
    await letters.close();
  }
}

/** Whether a letter is one of those that the options choose; without any, all are. */
export function chosen({ options }: Call): (letter: DeadLetter) => boolean {
  const ids = options['id'] as readonly string[] | undefined;
  const reasons = options['reason'] as readonly string[] | undefined;
  return ({ envelope, reason }) =>
    (ids?.includes(envelope.id ?? '') ?? true) && (reasons?.includes(reason) ?? true);
}

function open(options: Call['options']): DeadLetters {
  const { amqp, path, queue, 'dead-letter-queue': deadLetterQueue } = options;
  if ((typeof amqp === 'string') === (typeof path === 'string')) {
    throw new UsageError(
      'say where the queue is: --amqp amqp://user:password@host, or --path FOLDER',
    );
  }
  if (typeof queue !== 'string') throw new UsageError('name the queue: --queue NAME');
  try {
    if (typeof path === 'string') return embeddedDeadLetters({ path, queue });
    const url = String(amqp).split(',');
    // Looking must not make anything.
    return rabbitDeadLetters({
      url,
      queue,
      declare: false,
      ...(typeof deadLetterQueue === 'string' && { deadLetterQueue }),
    });
  } catch (error) {
    if (error instanceof InvalidArgumentError) throw new UsageError(error.message);
    throw error;
  }
}
