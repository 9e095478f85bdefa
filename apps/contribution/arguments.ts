/** The command line. */
import { parseArgs } from 'node:util';
import { LIMITS } from './contribution.ts';
import { WAYS, type Way } from './story/ways.ts';

/** Which engines to use; `null` for the embedded one. */
export interface EngineArguments {
  readonly amqp: string | null;
  readonly redis: string | null;
  readonly locks: string | null;
  /** A folder for what the embedded engines keep; `null` for the usual place. */
  readonly data: string | null;
}

export interface StoryArguments extends EngineArguments {
  readonly command: 'story';
  /** A path, `-` for standard input, or `null` for the bundled sample. */
  readonly input: string | null;
  readonly rejects: string;
  readonly ways: readonly Way[];
  readonly workers: number;
  /** Kill one instance when this share of the messages is done; `null` for none. */
  readonly killAt: number | null;
}

export interface ServeArguments extends EngineArguments {
  readonly command: 'serve';
  readonly host: string;
  readonly port: number;
  readonly workers: number;
  readonly queue: string;
  readonly maxRequestsPerSecond: number;
}

/** The caller's mistake: shown without a stack, and the exit code is 2. */
export class UsageError extends Error {}

const MAX_WORKERS = 16;
const DEFAULT_WORKERS = 3;
const DEFAULT_KILL_PERCENT = 40;
const DEFAULT_PORT = 8_080;
const DEFAULT_RATE = 1_000;
const MAX_RATE = 1_000_000;
const QUEUE_NAME = /^[\w.-]{1,100}$/;

export const HELP: string = `Usage: npm start -- [story] [options]
       npm start -- serve [options]

story   works contributions off in several ways, and shows which of them get the totals right
serve   takes contributions over HTTP, and works them off with a pool of workers, until SIGTERM

Engines, for both. Without these, everything is on this machine, and nothing has to be installed.
  --amqp URL          the queue: RabbitMQ, amqp://user:password@host/vhost
  --redis URL         the totals, and the locks: redis://host:6379
  --locks URL         the locks elsewhere: zookeeper://host:2181, redis://…, or several
                      redis://… with commas in between for Redlock
  --workers N         worker processes, story: 1 to ${MAX_WORKERS}, serve: 0 to ${MAX_WORKERS} (default: ${DEFAULT_WORKERS})

story
  --input FILE        NDJSON, one {"account": TEXT, "amount": CENTS} a line; - reads standard input
                      (default: the bundled sample)
  --rejects FILE      where lines go that are not contributions (default: rejects.ndjson)
  --only WAY[,WAY]    only these ways: ${WAYS.map((way) => way.id).join(', ')}
  --kill, --no-kill   kill one instance with -9 in the leasehold way, or none (default: --kill)
  --kill-at PERCENT   when so much of the messages is done, 0 to 100 (default: ${DEFAULT_KILL_PERCENT})
  --data DIR          make the temporary folder in DIR (default: the system's place)

serve
  --host HOST         listen there (default: 127.0.0.1, this machine only)
  --port N            0 takes any that is free (default: ${DEFAULT_PORT})
  --queue NAME        the queue's name, and the start of the names of the totals (default: contributions)
  --rate N            requests a second that one client may make (default: ${DEFAULT_RATE})
  --data DIR          keep what the embedded engines keep in DIR (default: .leasehold)
  SIGTTIN starts one more worker, SIGTTOU ends one, SIGTERM ends all when they are done

An amount is a whole number of cents in plain digits, such as 1250 or -300, at most ${LIMITS.cents} either
way. Fractions, exponents and text are rejected, so that every total is exact. Blank lines are left out.

Exit code: 0 when the totals of the leasehold way are exact, or it was not asked for; 1 when they are
not, or the run failed; 2 for a mistake on the command line.
`;

/** `null` when help is wanted. Throws a `UsageError` that says what to do. */
export function readArguments(args: readonly string[]): StoryArguments | ServeArguments | null {
  const [first] = args;
  const command = first === 'serve' || first === 'story' ? first : null;
  const options = command === null ? args : args.slice(1);
  return command === 'serve' ? readServe(options) : readStory(options);
}

const ENGINE_OPTIONS = {
  amqp: { type: 'string' },
  redis: { type: 'string' },
  locks: { type: 'string' },
  data: { type: 'string' },
  workers: { type: 'string' },
  help: { type: 'boolean' },
} as const;

function readStory(args: readonly string[]): StoryArguments | null {
  const values = orUsageError(
    () =>
      parseArgs({
        args: [...args],
        allowNegative: true,
        options: {
          ...ENGINE_OPTIONS,
          input: { type: 'string' },
          rejects: { type: 'string' },
          only: { type: 'string' },
          kill: { type: 'boolean', default: true },
          'kill-at': { type: 'string' },
        },
      }).values,
  );
  if (values.help) return null;
  const percent = wholeNumber('--kill-at', values['kill-at'], DEFAULT_KILL_PERCENT, 0, 100);
  return {
    command: 'story',
    ...enginesOf(values),
    input: values.input ?? null,
    rejects: values.rejects ?? 'rejects.ndjson',
    ways: values.only === undefined ? WAYS : waysOf(values.only),
    workers: wholeNumber('--workers', values.workers, DEFAULT_WORKERS, 1, MAX_WORKERS),
    killAt: values.kill ? percent / 100 : null,
  };
}

function readServe(args: readonly string[]): ServeArguments | null {
  const values = orUsageError(
    () =>
      parseArgs({
        args: [...args],
        options: {
          ...ENGINE_OPTIONS,
          host: { type: 'string' },
          port: { type: 'string' },
          queue: { type: 'string' },
          rate: { type: 'string' },
        },
      }).values,
  );
  if (values.help) return null;
  const { queue = 'contributions' } = values;
  if (!QUEUE_NAME.test(queue)) {
    throw new UsageError('--queue is 1 to 100 letters, digits, dots, dashes and underscores');
  }
  return {
    command: 'serve',
    ...enginesOf(values),
    host: values.host ?? '127.0.0.1',
    port: wholeNumber('--port', values.port, DEFAULT_PORT, 0, 65_535),
    workers: wholeNumber('--workers', values.workers, DEFAULT_WORKERS, 0, MAX_WORKERS),
    queue,
    maxRequestsPerSecond: wholeNumber('--rate', values.rate, DEFAULT_RATE, 1, MAX_RATE),
  };
}

type Given = { readonly [Name in 'amqp' | 'redis' | 'locks' | 'data']?: string | undefined };

/** The schemes that an option takes; what stands behind them is the engine's own affair. */
const SCHEMES = {
  amqp: /^amqps?:\/\//,
  redis: /^rediss?:\/\//,
  locks: /^(rediss?(\+sentinel)?|zookeeper):\/\//,
} as const;

function enginesOf(values: Given): EngineArguments {
  for (const name of ['amqp', 'redis', 'locks'] as const) {
    const url = values[name];
    if (url === undefined || SCHEMES[name].test(url)) continue;
    // The value may hold a password, and is not shown.
    throw new UsageError(`--${name} is no URL of the kind that is taken there; see --help`);
  }
  const { amqp = null, redis = null, locks = null, data = null } = values;
  return { amqp, redis, locks, data };
}

function orUsageError<T>(parse: () => T): T {
  try {
    return parse();
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
