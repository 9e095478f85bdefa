import { Redis } from 'ioredis';
import { redis } from 'leasehold/redis';
import { peers } from '../contenders.ts';
import {
  atLeast,
  type Column,
  compare,
  type Effort,
  RATE_COLUMNS,
  type Row,
  type Subject,
  type Table,
  type Workload,
} from '../measure.ts';
import { type BenchServer, withServer } from '../server.ts';
import { bareSubject, lockSubject, peerSubject } from '../subjects.ts';

const TASKS = 64;
const MIN_OF_LIMIT = 0.9;
const OURS = 'leasehold';
const keyOf = (task: number): string => `key:${task}`;

export const uncontended64: Workload = {
  name: 'uncontended-64',
  summary: `acquire and release a free key, ${TASKS} tasks of one process with a key each`,
  run: (effort) =>
    withServer(async (server) => {
      const plain = await measureWith(server, effort, false);
      const piped = await measureWith(server, effort, true);
      const check = (name: string, { rows }: Table): ReturnType<typeof atLeast> =>
        atLeast(name, rows.find((row) => row.name === OURS)?.figures['ratio'] ?? 0, MIN_OF_LIMIT);
      return {
        workload: 'uncontended-64',
        tables: [plain, piped],
        checks: [
          check('of the bare commands, default client', plain),
          check('of the bare commands, client with enableAutoPipelining', piped),
        ],
        notes: [
          'client µs, server µs: processor time for each acquire and release',
          'the calls of one turn of the event loop travel as one run of one script; bare commands do so only with enableAutoPipelining',
        ],
        plots: [],
      };
    }),
};

const COST_COLUMNS: readonly Column[] = [
  { key: 'clientUs', label: 'client µs', digits: 1 },
  { key: 'serverUs', label: 'server µs', digits: 1 },
];

async function measureWith(
  server: BenchServer,
  effort: Effort,
  enableAutoPipelining: boolean,
): Promise<Table> {
  const client = new Redis(server.port, '127.0.0.1', { enableAutoPipelining });
  const subjects = await subjectsOf(client);
  const costs = new Map<string, Row['figures']>();
  for (const subject of subjects) {
    if (subject.invalid === undefined) {
      costs.set(subject.name, await costOf(server, subject, effort));
    }
  }
  const rows = await compare(subjects, effort, TASKS);
  client.disconnect();
  const kind = enableAutoPipelining ? 'a client with enableAutoPipelining' : 'a default client';
  return {
    title: `${TASKS} tasks, ${kind}`,
    columns: [...RATE_COLUMNS, ...COST_COLUMNS],
    rows: rows.map((row) => ({ ...row, figures: { ...row.figures, ...costs.get(row.name) } })),
  };
}

async function subjectsOf(client: Redis): Promise<Subject[]> {
  const others = peers([null]).map((peer) => peerSubject(peer, client, keyOf));
  return [
    bareSubject('limit: SET NX PX, compare and delete', client, keyOf),
    lockSubject(OURS, redis(client), {}, keyOf),
    ...(await Promise.all(others)),
  ];
}

/** Processor time of both sides, in a round of its own. */
async function costOf(
  server: BenchServer,
  subject: Subject,
  effort: Effort,
): Promise<Row['figures']> {
  let count = 0;
  const run = async (forMs: number): Promise<void> => {
    const endMs = performance.now() + forMs;
    const task = async (number: number): Promise<void> => {
      while (performance.now() < endMs) {
        await subject.operation(number);
        count += 1;
      }
    };
    await Promise.all(Array.from({ length: TASKS }, (_, number) => task(number)));
  };
  await run(effort.roundMs / 2);
  count = 0;
  const [before, ownBefore] = [await server.look(), process.cpuUsage()];
  await run(effort.roundMs);
  const own = process.cpuUsage(ownBefore);
  const after = await server.look();
  return {
    clientUs: (own.user + own.system) / count,
    serverUs: (after.cpuUs - before.cpuUs) / count,
  };
}
