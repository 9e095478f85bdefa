/** The command line. */
import { parseArgs } from 'node:util';
import { LIMITS } from './input.ts';
import { WAYS, type Way } from './ways.ts';

export interface Arguments {
  /** A path, `-` for standard input, or `null` for the bundled sample. */
  readonly input: string | null;
  readonly rejects: string;
  /** Where to make the temporary folder; `null` for the system's place. */
  readonly data: string | null;
  readonly ways: readonly Way[];
  readonly workers: number;
  /** Kill one instance when this share of the messages is done; `null` for none. */
  readonly killAt: number | null;
}

/** The caller's mistake: shown without a stack, and the exit code is 2. */
export class UsageError extends Error {}

const MAX_WORKERS = 16;
const DEFAULT_WORKERS = 3;
const DEFAULT_KILL_PERCENT = 40;

export const HELP: string = `Usage: npm start -- [options]

Works contributions off in the ways of the story, and shows which of them get the totals right.

  --input FILE        NDJSON, one {"account": TEXT, "amount": CENTS} a line; - reads standard input
                      (default: the bundled sample)
  --rejects FILE      where lines go that are not contributions (default: rejects.ndjson)
  --only WAY[,WAY]    only these ways: ${WAYS.map((way) => way.id).join(', ')}
  --workers N         instances of the ways that have several, 1 to ${MAX_WORKERS} (default: ${DEFAULT_WORKERS})
  --kill, --no-kill   kill one instance with -9 in the leasehold way, or none (default: --kill)
  --kill-at PERCENT   when so much of the messages is done, 0 to 100 (default: ${DEFAULT_KILL_PERCENT})
  --data DIR          make the temporary folder in DIR (default: the system's place)
  --help              show this

An amount is a whole number of cents in plain digits, such as 1250 or -300, at most ${LIMITS.cents} either
way. Fractions, exponents and text are rejected, so that every total is exact. Blank lines are left out.

Exit code: 0 when the totals of the leasehold way are exact, or it was not asked for; 1 when they are
not, or the run failed; 2 for a mistake on the command line.
`;

/** `null` when help is wanted. Throws a `UsageError` that says what to do. */
export function readArguments(args: readonly string[]): Arguments | null {
  const values = parse(args);
  if (values.help) return null;
  const percent = wholeNumber('--kill-at', values['kill-at'], DEFAULT_KILL_PERCENT, 0, 100);
  return {
    input: values.input ?? null,
    rejects: values.rejects ?? 'rejects.ndjson',
    data: values.data ?? null,
    ways: values.only === undefined ? WAYS : waysOf(values.only),
    workers: wholeNumber('--workers', values.workers, DEFAULT_WORKERS, 1, MAX_WORKERS),
    killAt: values.kill ? percent / 100 : null,
  };
}

function parse(args: readonly string[]) {
  try {
    return parseArgs({
      args: [...args],
      allowNegative: true,
      options: {
        input: { type: 'string' },
        rejects: { type: 'string' },
        data: { type: 'string' },
        only: { type: 'string' },
        workers: { type: 'string' },
        kill: { type: 'boolean', default: true },
        'kill-at': { type: 'string' },
        help: { type: 'boolean' },
      },
    }).values;
  } catch (error) {
    throw new UsageError(`${(error as Error).message}; see --help`);
  }
}

/** In the order of the story, whatever the order on the command line. */
function waysOf(only: string): readonly Way[] {
  const ids = new Set(only.split(',').map((id) => id.trim()));
  const ways = WAYS.filter((way) => ids.delete(way.id));
  const [unknown] = ids;
  if (unknown === undefined) return ways;
  const known = WAYS.map((way) => way.id).join(', ');
  throw new UsageError(`--only ${JSON.stringify(unknown)} is not a way; there are ${known}`);
}

function wholeNumber(
  flag: string,
  text: string | undefined,
  fallback: number,
  min: number,
  max: number,
): number {
  if (text === undefined) return fallback;
  const value = Number(text);
  if (/^\d+$/.test(text) && value >= min && value <= max) return value;
  throw new UsageError(
    `${flag} is a whole number from ${min} to ${max}, not ${JSON.stringify(text)}`,
  );
}
