/** The command line of the torture. */
import { parseArgs } from 'node:util';
import { ENGINES } from './engines/index.ts';
import { WORKLOADS, type WorkloadName } from './orders.ts';
import { FAULTS, type Fault } from './plan.ts';

export interface Arguments {
  readonly store: string;
  readonly workload: WorkloadName;
  readonly faults: readonly Fault[];
  readonly seconds: number;
  readonly seed: number;
  readonly json: boolean;
  readonly control: boolean;
}

/** The command line is wrong. The message says how it is right. */
export class UsageError extends Error {}

const MAX_SECONDS = 86_400;
const MAX_SEED = 2 ** 31 - 1;

export const USAGE = `npm run torture -- --store STORE [options]

  --store STORE        ${Object.keys(ENGINES).join(', ')}
  --workload NAME      ${WORKLOADS.join(', ')} (default register)
  --faults LIST        of ${FAULTS.join(',')} (default all)
  --seconds N          how long faults go on (default 60)
  --seed N             which schedule of faults (default drawn, and said)
  --no-control         without the run of a peer's locks
  --json               one line of JSON

Exits with 0 when nothing is wrong, 1 when something is, 2 when the command line is, and 3 when the controls were not
caught, so that the run proves nothing.
`;

export function readArguments(args: readonly string[]): Arguments {
  const { store, workload, faults, seconds, seed, json, 'no-control': noControl } = parse(args);
  return {
    store: oneOf('store', store, Object.keys(ENGINES)),
    workload: oneOf('workload', workload ?? 'register', WORKLOADS),
    faults: (faults?.split(',') ?? FAULTS).map((one) => oneOf('faults', one, FAULTS)),
    seconds: whole('seconds', seconds ?? '60', 1, MAX_SECONDS),
    seed: whole('seed', seed ?? String(Math.floor(Math.random() * MAX_SEED)), 0, MAX_SEED),
    json: json ?? false,
    control: !noControl,
  };
}

function parse(args: readonly string[]) {
  try {
    return parseArgs({
      args: [...args],
      options: {
        store: { type: 'string' },
        workload: { type: 'string' },
        faults: { type: 'string' },
        seconds: { type: 'string' },
        seed: { type: 'string' },
        json: { type: 'boolean' },
        'no-control': { type: 'boolean' },
      },
    }).values;
  } catch (error) {
    throw new UsageError((error as Error).message);
  }
}

function oneOf<Name extends string>(
  option: string,
  value: string | undefined,
  names: readonly Name[],
): Name {
  const found = names.find((name) => name === value);
  if (found !== undefined) return found;
  throw new UsageError(`--${option} is one of ${names.join(', ')}, not ${value ?? 'left out'}`);
}

function whole(option: string, text: string, min: number, max: number): number {
  const value = Number(text);
  if (/^\d+$/.test(text) && value >= min && value <= max) return value;
  throw new UsageError(`--${option} is a whole number from ${min} to ${max}, not ${text}`);
}
