#!/usr/bin/env node
/**
 * `leasehold`: looks at what an application has in its stores, and mends it by hand. One file a command; this one finds
 * the command and says how it ended.
 */
import { once } from 'node:events';
import { parseArgs } from 'node:util';
import { type Call, type Command, UsageError } from './command.ts';
import { deadLettersList } from './dead-letters-list.ts';
import { deadLettersReplay } from './dead-letters-replay.ts';
import { locksBreak } from './locks-break.ts';
import { locksList } from './locks-list.ts';
import { locksShow } from './locks-show.ts';

const COMMANDS: readonly Command[] = [
  locksList,
  locksShow,
  locksBreak,
  deadLettersList,
  deadLettersReplay,
];

function help(commands: readonly Command[]): string {
  const lines = commands.map(
    ({ words, usage, summary }) => `  leasehold ${words.join(' ')} ${usage}\n      ${summary}`,
  );
  return [
    'Usage:',
    ...lines,
    '',
    'Exit code: 0 when it is done, 1 when it failed, 2 for a mistake on the command line.',
  ].join('\n');
}

async function main(args: readonly string[]): Promise<void> {
  const command = COMMANDS.find(({ words }) => words.every((word, at) => args[at] === word));
  if (command === undefined) {
    const first = args[0] ?? '';
    if (['', '--help', '-h', 'help'].includes(first)) return print(help(COMMANDS));
    const near = COMMANDS.filter(({ words }) => words[0] === first);
    if (near.length > 0 && ['--help', '-h'].includes(args.at(-1) ?? '')) return print(help(near));
    throw new UsageError(
      `there is no command '${args.slice(0, 2).join(' ')}'\n\n${help(near.length > 0 ? near : COMMANDS)}`,
    );
  }
  const { options, operands } = parse(command, args.slice(command.words.length));
  if (options['help'] === true) return print(help([command]));
  try {
    await command.run({ operands, options, print });
  } catch (error) {
    if (!(error instanceof UsageError)) throw error;
    throw new UsageError(`${error.message}\n\n${help([command])}`, { cause: error });
  }
}

function parse(command: Command, args: readonly string[]): Omit<Call, 'print'> {
  const options = { ...command.options, help: { type: 'boolean', short: 'h' } } as const;
  try {
    const { values, positionals } = parseArgs({
      args: [...args],
      options,
      allowPositionals: true,
    });
    return { options: values as Call['options'], operands: positionals };
  } catch (error) {
    throw new UsageError(`${(error as Error).message}\n\n${help([command])}`);
  }
}

async function print(line: string): Promise<void> {
  if (!process.stdout.write(`${line}\n`)) await once(process.stdout, 'drain');
}

// Whoever reads the output may stop reading, as `head` does: then nothing is left to say.
process.stdout.on('error', () => process.exit(0));

try {
  await main(process.argv.slice(2));
} catch (error) {
  console.error(`leasehold: ${error instanceof Error ? error.message : String(error)}`);
  process.exitCode = error instanceof UsageError ? 2 : 1;
}
