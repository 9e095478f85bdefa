import { setTimeout } from 'node:timers/promises';
import { type Contender, connect, contender, OURS, openContender, peers } from '../contenders.ts';
import { type Crew, withCrew } from '../crew.ts';
import type { DrainResult } from '../jobs.ts';
import {
  atMost,
  type Column,
  type Effort,
  machineMs,
  median,
  type Row,
  type Table,
  type Workload,
} from '../measure.ts';
import { type BenchServer, withServer } from '../server.ts';

/** So long, all have asked and nobody comes any more. */
const SETTLE_MS = 400;
const COLUMNS: readonly Column[] = [
  { key: 'drainMs', label: 'all served after ms', digits: 1 },
  { key: 'firstMs', label: 'the first after ms', digits: 2 },
  { key: 'commands', label: 'commands each', digits: 2 },
];
const MAX_COMMANDS_EACH = 1;

interface Size {
  readonly processes: number;
  readonly tasks: number;
}
const SIZES: readonly Size[] = [
  { processes: 4, tasks: 25 },
  { processes: 10, tasks: 50 },
];

export const drain: Workload = {
  name: 'drain',
  summary:
    'one holder, 100 (and 500) waiters in other processes: from its release until all were served',
  run: (effort) =>
    withServer((server) =>
      withCrew(effort.isQuick ? 4 : 10, async (crew) => {
        const tables: Table[] = [];
        for (const size of effort.isQuick ? SIZES.slice(0, 1) : SIZES) {
          tables.push(await measure(server, crew, size, effort));
        }
        const ours = tables.map(({ rows }) => rows[0]?.figures['commands'] ?? Infinity);
        return {
          workload: 'drain',
          tables,
          checks: tables.map(({ title }, index) =>
            atMost(`${title}: commands each`, ours[index] ?? Infinity, MAX_COMMANDS_EACH),
          ),
          notes: [
            'the work under the lock is nothing: what is measured is the waiting',
            'commands each: all that the waiting processes sent, from the call on, for each waiter',
          ],
          plots: [],
        };
      }),
    ),
};

async function measure(
  server: BenchServer,
  crew: Crew,
  size: Size,
  effort: Effort,
): Promise<Table> {
  const contenders = [contender(OURS), ...peers(effort.isQuick ? [5] : [null, 5])];
  const rows: Row[] = [];
  for (const one of contenders) {
    try {
      const rounds: Row['figures'][] = [];
      for (let round = 0; round < Math.min(effort.rounds, 3); round += 1) {
        rounds.push(await drainOnce(server, crew, size, one));
      }
      const of = (key: string): number => median(rounds.map((round) => round[key] ?? Number.NaN));
      const figures = {
        drainMs: of('drainMs'),
        firstMs: of('firstMs'),
        commands: of('commands'),
      };
      rows.push({ name: one.name, figures });
    } catch (error) {
      rows.push({ name: one.name, figures: {}, invalid: String(error) });
    }
  }
  const { processes, tasks } = size;
  return {
    title: `${processes * tasks} waiters in ${processes} processes`,
    columns: COLUMNS,
    rows,
  };
}

async function drainOnce(
  server: BenchServer,
  crew: Crew,
  { processes, tasks }: Size,
  one: Contender,
): Promise<Row['figures']> {
  const { port } = server;
  await server.admin.flushall();
  await crew.run({ kind: 'warm-up', port, contender: one }, processes);
  const client = connect(port);
  const locker = await openContender(one, [client]);
  try {
    const runs: Promise<DrainResult[]>[] = [];
    let releasedAtMs = 0;
    await locker.withLock('drained', async () => {
      const run = crew.run({ kind: 'drain', port, contender: one, tasks }, processes);
      run.catch(() => {});
      runs.push(run);
      await setTimeout(SETTLE_MS);
      releasedAtMs = machineMs();
    });
    const all = (await Promise.all(runs)).flat();
    const timesMs = all.flatMap(({ servedAtMs }) => servedAtMs).map((atMs) => atMs - releasedAtMs);
    const count = processes * tasks;
    if (timesMs.length !== count) throw new Error(`${timesMs.length} of ${count} were served`);
    return {
      drainMs: Math.max(...timesMs),
      firstMs: Math.min(...timesMs),
      commands: all.reduce((sum, { commands }) => sum + commands, 0) / count,
    };
  } finally {
    await locker.close();
    client.disconnect();
  }
}
