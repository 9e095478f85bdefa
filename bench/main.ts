/**
 * npm run bench -- WORKLOAD [--quick] [--json]
 *
 * Exits with 1 when a result is wrong or a target is missed, with 2 when the command line is.
 */
import { arch, cpus, platform } from 'node:os';
import { parseArgs } from 'node:util';
import type { Effort, Report, Row, Workload } from './measure.ts';
import { whole } from './measure.ts';
import { embeddedHotKey } from './workloads/embedded-hot-key.ts';
import { retained } from './workloads/retained.ts';
import { uncontended } from './workloads/uncontended.ts';

const WORKLOADS: readonly Workload[] = [retained, uncontended, embeddedHotKey];
const FULL: Effort = { rounds: 7, roundMs: 1_000 };
const QUICK: Effort = { rounds: 3, roundMs: 200 };

function usage(): string {
  const list = WORKLOADS.map(({ name, summary }) => `  ${name.padEnd(18)}${summary}`);
  return ['npm run bench -- WORKLOAD [--quick] [--json]', '', ...list].join('\n');
}

function printReport(report: Report): void {
  const { rows, checks, notes } = report;
  console.log(
    `${report.workload}   Node ${process.version}, ${platform()} ${arch()}, ${processors()}\n`,
  );
  if (rows.length > 0) console.table(Object.fromEntries(rows.map(readable)));
  for (const check of checks) {
    const verdict = check.met ? 'met   ' : 'MISSED';
    console.log(`${verdict}  ${check.what}: ${check.measured} (target ${check.target})`);
  }
  for (const note of notes) console.log(`        ${note}`);
}

function readable(row: Row): [string, Record<string, string>] {
  return [
    row.name,
    {
      'per second': whole(row.perSecond),
      'p50 us': row.p50Us.toFixed(2),
      'p99 us': row.p99Us.toFixed(2),
      ratio: row.ratio.toFixed(3),
    },
  ];
}

function processors(): string {
  const all = cpus();
  return `${all.length} x ${all[0]?.model.trim() ?? 'unknown'}`;
}

async function main(): Promise<number> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: { quick: { type: 'boolean' }, json: { type: 'boolean' } },
  });
  const workload = WORKLOADS.find(({ name }) => name === positionals[0]);
  if (!workload || positionals.length > 1) {
    console.error(usage());
    return 2;
  }
  const report = await workload.run(values.quick ? QUICK : FULL);
  if (values.json) console.log(JSON.stringify(report, null, 2));
  else printReport(report);
  return report.checks.every((check) => check.met) ? 0 : 1;
}

process.exitCode = await main();
