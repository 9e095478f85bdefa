/**
 * npm run bench -- WORKLOAD [--quick] [--json]    measures, prints, and keeps the result
 * npm run bench -- all [--quick]                  all workloads, then the report
 * npm run bench -- report                         docs/benchmarks.md from the results that are kept
 *
 * A quick run is kept nowhere. Exits with 1 when a workload could not be measured or its result is wrong, with 2 when
 * the command line is; a target that is missed is printed, and no failure, since it may be the machine's.
 */
import { parseArgs } from 'node:util';
import { environment, keepResult, writeReport } from './keep.ts';
import { type Effort, figure, type Report, type Table, type Workload } from './measure.ts';
import { drain } from './workloads/drain.ts';
import { embeddedHotKey } from './workloads/embedded-hot-key.ts';
import { growth } from './workloads/growth.ts';
import { handOver } from './workloads/hand-over.ts';
import { held } from './workloads/held.ts';
import { hotKey } from './workloads/hot-key.ts';
import { memory } from './workloads/memory.ts';
import { profile } from './workloads/profile.ts';
import { redlock3 } from './workloads/redlock.ts';
import { redlockHotKey } from './workloads/redlock-hot-key.ts';
import { retained } from './workloads/retained.ts';
import { skewed } from './workloads/skewed.ts';
import { story } from './workloads/story.ts';
import { uncontended } from './workloads/uncontended.ts';
import { uncontended64 } from './workloads/uncontended-64.ts';
import { zookeeperHotKey } from './workloads/zookeeper-hot-key.ts';
import { zookeeperUncontended } from './workloads/zookeeper-uncontended.ts';

const WORKLOADS: readonly Workload[] = [
  uncontended,
  uncontended64,
  retained,
  hotKey,
  handOver,
  drain,
  skewed,
  held,
  memory,
  redlock3,
  redlockHotKey,
  story,
  growth,
  profile,
  embeddedHotKey,
  zookeeperUncontended,
  zookeeperHotKey,
];
const FULL: Effort = { rounds: 5, roundMs: 500, isQuick: false };
const QUICK: Effort = { rounds: 1, roundMs: 150, isQuick: true };

function usage(): string {
  const list = WORKLOADS.map(({ name, summary }) => `  ${name.padEnd(18)}${summary}`);
  return ['npm run bench -- WORKLOAD | all | report [--quick] [--json]', '', ...list].join('\n');
}

function printReport(report: Report): void {
  console.log(`\n${report.workload}   ${environment()}`);
  for (const table of report.tables) {
    console.log(`\n${table.title}`);
    console.table(Object.fromEntries(readableRows(table)));
  }
  for (const check of report.checks) {
    const verdict = check.met ? 'met   ' : 'MISSED';
    console.log(`${verdict}  ${check.what}: ${check.measured} (target ${check.target})`);
  }
  for (const note of report.notes) console.log(`        ${note}`);
}

function readableRows({ columns, rows }: Table): [string, Record<string, string>][] {
  return rows.map(({ name, figures, invalid }) => {
    if (invalid !== undefined) return [name, { void: invalid }];
    const cells = columns.map(({ key, label, digits }) => [
      label,
      figures[key] === undefined ? '' : figure(figures[key], digits),
    ]);
    return [name, Object.fromEntries(cells)];
  });
}

/** False when it could not be measured. */
async function measure(workload: Workload, effort: Effort, isJson: boolean): Promise<boolean> {
  try {
    const report = await workload.run(effort);
    if (!effort.isQuick) await keepResult(report);
    if (isJson) console.log(JSON.stringify(report, null, 2));
    else printReport(report);
    return true;
  } catch (error) {
    console.error(`${workload.name} could not be measured:`, error);
    return false;
  }
}

async function main(): Promise<number> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: { quick: { type: 'boolean' }, json: { type: 'boolean' } },
  });
  const [name, ...rest] = positionals;
  const chosen = name === 'all' ? WORKLOADS : WORKLOADS.filter((one) => one.name === name);
  if (rest.length > 0 || (chosen.length === 0 && name !== 'report')) {
    console.error(usage());
    return 2;
  }
  let failures = 0;
  for (const workload of chosen) {
    const isMeasured = await measure(workload, values.quick ? QUICK : FULL, values.json === true);
    if (!isMeasured) failures += 1;
  }
  if (name === 'report' || (name === 'all' && !values.quick)) await writeReport();
  return failures === 0 ? 0 : 1;
}

process.exitCode = await main();
