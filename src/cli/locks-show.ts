import type { Command } from './command.ts';
import { nameOf, REDIS_OPTIONS, REDIS_USAGE, withLocks } from './redis.ts';
import { jsonOf, pageOf } from './report.ts';

/** One lock, with every holder and every waiter in order of arrival. */
export const locksShow: Command = {
  words: ['locks', 'show'],
  usage: `NAME ${REDIS_USAGE}`,
  summary: 'one lock, with all who hold it and all who wait, in order',
  options: REDIS_OPTIONS,
  async run(call) {
    const name = nameOf(call);
    await withLocks(call, async (locks) => {
      const report = await locks.show(name);
      await call.print(call.options['json'] === true ? jsonOf(report) : pageOf(report));
    });
  },
};
