/**
 * Runs schedules from the command line, to find a failing seed or to replay one:
 *
 *     npm run simulate -- --seed 42 --trace
 *     npm run simulate -- --from 1 --count 1000
 *
 * Ends with 1 when a schedule was wrong, and with 2 when the command was.
 */
import { parseArgs } from 'node:util';
import { type SimulationReport, simulate } from './simulate.ts';

const USAGE = `usage: npm run simulate -- [--seed N [--trace]] [--from N] [--count N]
  --seed N    the schedule of this seed
  --trace     print what happens in it, line by line
  --from N    the first of several seeds (default 1)
  --count N   how many (default 1000); stops at the first that is wrong
`;

function say(text: string): void {
  process.stdout.write(`${text}\n`);
}

function readWhole(name: string, text: string): number {
  const value = Number(text);
  if (Number.isSafeInteger(value) && value >= 0) return value;
  throw new RangeError(`--${name} is a whole number, not ${text}`);
}

function describe({ plan, violations, counts, steps }: SimulationReport): string {
  const { seed, profile, handOver, order } = plan;
  const head = `seed ${seed}: ${profile}, ${handOver}, order ${order}, ${steps} moments`;
  const happened = Object.entries(counts).map(([what, count]) => `  ${count} ${what}`);
  return [head, ...happened, ...violations.map((violation) => `  WRONG ${violation}`)].join('\n');
}

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      seed: { type: 'string' },
      trace: { type: 'boolean', default: false },
      from: { type: 'string', default: '1' },
      count: { type: 'string', default: '1000' },
    },
  });
  if (values.seed !== undefined) {
    const seed = readWhole('seed', values.seed);
    const report = await simulate(values.trace ? { seed, onTrace: say } : { seed });
    say(describe(report));
    return report.violations.length === 0 ? 0 : 1;
  }
  const first = readWhole('from', values.from);
  const count = readWhole('count', values.count);
  for (let seed = first; seed < first + count; seed += 1) {
    const report = await simulate({ seed });
    if (report.violations.length === 0) continue;
    say(describe(report));
    say(`replay it with: npm run simulate -- --seed ${seed} --trace`);
    return 1;
  }
  say(`${count} schedules from seed ${first}: all right`);
  return 0;
}

main().then(
  (code) => {
    process.exitCode = code;
  },
  (error) => {
    process.stderr.write(`${error instanceof Error ? error.message : error}\n${USAGE}`);
    process.exitCode = 2;
  },
);
