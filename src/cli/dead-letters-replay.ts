import { type Command, UsageError } from './command.ts';
import { chosen, QUEUE_OPTIONS, QUEUE_USAGE, withDeadLetters } from './dead-letters.ts';

/** Puts dead letters into their queue again, as replays: a consumer then applies what it had marked as dead. */
export const deadLettersReplay: Command = {
  words: ['dead-letters', 'replay'],
  usage: `${QUEUE_USAGE} [--all]`,
  summary:
    'puts the chosen letters, or --all, into their queue again; what was applied stays applied once',
  options: { ...QUEUE_OPTIONS, all: { type: 'boolean' } },
  async run(call) {
    const { id, reason, all = false } = call.options;
    if ((id === undefined && reason === undefined) !== all) {
      throw new UsageError('choose letters by --id or --reason, or give --all');
    }
    await withDeadLetters(call, async (letters) => {
      const count = await letters.replay(chosen(call));
      const isJson = call.options['json'] === true;
      await call.print(isJson ? JSON.stringify({ replayed: count }) : `${count} replayed`);
    });
  },
};
