import type { DeadLetter } from '../consumer/contracts.ts';
import { type Command, UsageError } from './command.ts';
import { chosen, QUEUE_OPTIONS, QUEUE_USAGE, withDeadLetters } from './dead-letters.ts';
import { printable } from './report.ts';

const DEFAULT_MOST = 100;
/** Characters of a body or a detail on a line. */
const MAX_SHOWN = 200;

/** What waits for a person. Nothing is moved. */
export const deadLettersList: Command = {
  words: ['dead-letters', 'list'],
  usage: `${QUEUE_USAGE} [--limit N] [--json]`,
  summary: 'what waits for a person, and why; of the first N letters (100), those that are chosen',
  options: { ...QUEUE_OPTIONS, limit: { type: 'string' } },
  async run(call) {
    const most = Number(call.options['limit'] ?? DEFAULT_MOST);
    if (!Number.isInteger(most) || most < 1)
      throw new UsageError('--limit is a whole number from 1');
    await withDeadLetters(call, async (letters) => {
      const isJson = call.options['json'] === true;
      if (!isJson) await call.print('SINCE\tREASON\tID\tDETAIL\tBODY');
      for (const letter of (await letters.list(most)).filter(chosen(call))) {
        await call.print(isJson ? jsonOf(letter) : lineOf(letter));
      }
    });
  },
};

function lineOf({ envelope, reason, detail, deadSinceMs }: DeadLetter): string {
  const since = deadSinceMs === null ? '-' : new Date(deadSinceMs).toISOString();
  const body = Buffer.from(envelope.content).toString('utf8');
  const shown = [detail, body].map((text) => printable(text.slice(0, MAX_SHOWN)));
  return [
    since,
    printable(reason),
    envelope.id === null ? '-' : printable(envelope.id),
    ...shown,
  ].join('\t');
}

/** The body as text where it is text, and in base64 as well, so that nothing is lost. */
function jsonOf({ envelope, reason, detail, deadSinceMs }: DeadLetter): string {
  const { content, ...rest } = envelope;
  const bytes = Buffer.from(content);
  const body = bytes.toString('utf8');
  const isText = Buffer.from(body).equals(bytes);
  return JSON.stringify({
    reason,
    detail,
    deadSinceMs,
    ...rest,
    ...(isText ? { body } : { bodyBase64: bytes.toString('base64') }),
  });
}
