/**
 * What a command of the command line is.
 */
import type { ParseArgsConfig } from 'node:util';

export interface Command {
  /** The words that call it. */
  readonly words: readonly string[];
  /** What stands behind the words, for people: operands and options. */
  readonly usage: string;
  /** One line on what it does. */
  readonly summary: string;
  /** The options that it takes, as `parseArgs` of Node.js has them. `--help` is added. */
  readonly options: NonNullable<ParseArgsConfig['options']>;
  /** Rejects with `UsageError` for a mistake of the caller's, with any other error for what failed. */
  run(call: Call): Promise<void>;
}

export interface Call {
  readonly operands: readonly string[];
  readonly options: Readonly<Record<string, OptionValue>>;
  /** Prints a line of the result. Wait for it: whoever reads may be slower. */
  print(line: string): Promise<void>;
}

export type OptionValue = string | boolean | (string | boolean)[] | undefined;

/** The caller's mistake: shown without a stack, and the exit code is 2. */
export class UsageError extends Error {}
