import type { BreakReport } from '../redis/inspector.ts';
import type { Command } from './command.ts';
import { nameOf, REDIS_OPTIONS, REDIS_USAGE, withLocks } from './redis.ts';
import { printable } from './report.ts';

/** Takes a key from whoever holds it. What the old holder still writes is stopped by a fence alone. */
export const locksBreak: Command = {
  words: ['locks', 'break'],
  usage: `NAME ${REDIS_USAGE}`,
  summary: 'takes a lock from who holds it, raises its epoch, and hands it to the next waiter',
  options: REDIS_OPTIONS,
  async run(call) {
    const name = nameOf(call);
    await withLocks(call, async (locks) => {
      const report = await locks.break(name);
      await call.print(call.options['json'] === true ? JSON.stringify(report) : sentenceOf(report));
    });
  },
};

function sentenceOf({ name, epoch, broken, successor }: BreakReport): string {
  const from =
    broken.length === 0
      ? `nobody held ${printable(name)}`
      : `${printable(name)} was taken from ${broken.map(printable).join(', ')}`;
  const to = successor === null ? '' : `; ${printable(successor)} has it now`;
  return `${from}${to}; later grants have epochs above ${epoch}`;
}
