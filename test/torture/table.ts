/**
 * Reports, one a line on the standard input, as the table of docs/reliability.md on the standard output:
 *
 *   node dist/test/torture/table.js < test/torture/runs.ndjson
 */
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import type { Report } from './report.ts';

const HEAD = [
  '| store, workload, seed | faults for | injected | leases | fenced updates, or messages (of unknown outcome, refused) | order judged | overlaps | violations | without the fence | redis-semaphore |',
  '|---|---|---|---|---|---|---|---|---|---|',
];

export function tableOf(lines: string): string {
  const reports = lines
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as Report);
  return [...HEAD, ...reports.map(rowOf)].join('\n');
}

function rowOf(report: Report): string {
  const { fenced, controls, workload } = report;
  const injected = Object.values(report.injected).reduce((sum, count) => sum + count, 0);
  const isQueue = workload === 'queue';
  const work = {
    queue: '',
    ledger: `${report.ledger.posted} messages (${report.ledger.unknown})`,
    register: `${fenced.updates} (${fenced.unknown}, ${fenced.refused})`,
  };
  const control = (name: RegExp): string => {
    const found = controls.find((one) => name.test(one.name));
    return found ? `${found.wrong} of ${found.operations} wrong` : '';
  };
  const cells = [
    `${report.store}, ${workload}, ${report.seed}`,
    `${report.seconds} s`,
    injected,
    report.leases,
    work[workload],
    isQueue ? `${report.orderJudged} pairs` : '',
    `${report.overlaps}${report.mayOverlap ? '' : ', none allowed'}`,
    report.violations.length,
    control(/without the fence/),
    control(/redis-semaphore/),
  ];
  return `| ${cells.join(' | ')} |`;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  process.stdout.write(`${tableOf(await text(process.stdin))}\n`);
}
