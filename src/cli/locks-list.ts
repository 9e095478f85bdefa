import { type Command, UsageError } from './command.ts';
import { REDIS_OPTIONS, REDIS_USAGE, withLocks } from './redis.ts';
import { jsonOf, LIST_HEAD, lineOf } from './report.ts';

/** Every lock that is held, a line each, as they are found: there may be a million. */
export const locksList: Command = {
  words: ['locks', 'list'],
  usage: REDIS_USAGE,
  summary:
    'who holds what, since when, until when, and how many wait; with --json, one object a line',
  options: REDIS_OPTIONS,
  async run(call) {
    if (call.operands.length > 0) {
      throw new UsageError('it takes no name: locks show NAME shows one lock');
    }
    await withLocks(call, async (locks) => {
      const isJson = call.options['json'] === true;
      if (!isJson) await call.print(LIST_HEAD);
      for await (const report of locks.list()) {
        await call.print(isJson ? jsonOf(report) : lineOf(report));
      }
    });
  },
};
