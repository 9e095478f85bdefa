/**
 * One key on ZooKeeper that sixteen tasks of two processes want all the time: this package, Apache Curator and kazoo.
 *
 * The work under the lock is small and the same for all: read a number from a file, add one, write it back. Each process has its own
 * time to warm up, and only what is done after it counts.
 */
import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { ZooKeeperServer } from '../../test/servers/zookeeper.ts';
import {
  atLeast,
  type Column,
  type Effort,
  inFolder,
  median,
  type Report,
  type Row,
  type Workload,
  warmUpMs,
} from '../measure.ts';

const NAME = 'zookeeper-hot-key';
const PROCESSES = 2;
const TASKS = 8;
const MIN_OF_PEERS = 3;
const OURS = 'leasehold';
/** Debian's own, which has Debian's packages. */
const PYTHON = '/usr/bin/python3';
const PEERS = join(import.meta.dirname, '../../../peers');
const JARS = [
  'curator-recipes',
  'curator-framework',
  'curator-client',
  'zookeeper',
  'zookeeper-jute',
  'slf4j-api',
  'guava',
].map((name) => `/usr/share/java/${name}.jar`);

const run = promisify(execFile);

interface Contender {
  readonly name: string;
  /** The command of one process; its arguments follow. Rejects with what is missing. */
  prepare(folder: string): Promise<string[]>;
}

interface Tally {
  readonly total: number;
  readonly measured: number;
  readonly longestWaitMs: number;
}

const CONTENDERS: readonly Contender[] = [
  {
    name: OURS,
    prepare: async () => [
      process.execPath,
      join(import.meta.dirname, 'zookeeper-hot-key-worker.js'),
    ],
  },
  {
    name: 'Curator InterProcessMutex',
    async prepare(folder) {
      const missing = JARS.filter((jar) => !existsSync(jar));
      if (missing.length > 0) {
        throw new Error('apt-get install -y default-jdk-headless libcurator-recipes-java');
      }
      const path = JARS.join(':');
      await run('javac', ['-cp', path, '-d', folder, join(PEERS, 'CuratorHotKey.java')]);
      return ['java', '-cp', `${folder}:${path}`, 'CuratorHotKey'];
    },
  },
  {
    name: 'kazoo Lock',
    async prepare() {
      await run(PYTHON, ['-c', 'import kazoo']).catch(() => {
        throw new Error('apt-get install -y python3-kazoo');
      });
      return [PYTHON, join(PEERS, 'kazoo_hot_key.py')];
    },
  },
];

export const zookeeperHotKey: Workload = {
  name: NAME,
  summary: `one key on ZooKeeper, ${PROCESSES} processes of ${TASKS} tasks, with Curator and kazoo`,
  run: (effort) => inFolder((folder) => measure(folder, effort)),
};

const COLUMNS: readonly Column[] = [
  { key: 'perSecond', label: 'per second', digits: 0 },
  { key: 'longestWaitMs', label: 'longest wait ms', digits: 1 },
  { key: 'ours', label: 'ours is so many times', digits: 1 },
];

async function measure(folder: string, effort: Effort): Promise<Report> {
  const server = await ZooKeeperServer.start();
  try {
    const rounds = new Map<string, Row[]>(CONTENDERS.map(({ name }) => [name, []]));
    for (let round = 0; round < effort.rounds; round += 1) {
      for (const contender of CONTENDERS) {
        rounds.get(contender.name)?.push(await oneRound(contender, server, folder, effort));
      }
    }
    return report(rounds);
  } finally {
    await server.close();
  }
}

async function oneRound(
  contender: Contender,
  server: ZooKeeperServer,
  folder: string,
  effort: Effort,
): Promise<Row> {
  const { name } = contender;
  const file = join(folder, 'counter');
  await writeFile(file, '0'.padStart(20, '0'));
  const durationMs = effort.roundMs * 4;
  try {
    const [command = '', ...args] = await contender.prepare(folder);
    const key = `/hot-${name.replaceAll(/\W/g, '')}`;
    const times = [warmUpMs(effort), durationMs];
    const all = [...args, server.address, key, file, TASKS, ...times].map(String);
    const processes = Array.from({ length: PROCESSES }, () => run(command, all));
    const outputs = await Promise.all(processes);
    const tallies = outputs.map(({ stdout }) => JSON.parse(stdout) as Tally);
    const sum = (of: (tally: Tally) => number): number =>
      tallies.reduce((before, tally) => before + of(tally), 0);
    const count = Number(await readFile(file, 'utf8'));
    const total = sum((tally) => tally.total);
    if (count !== total) return { name, figures: {}, invalid: `${count} of ${total} counts` };
    const perSecond = (sum((tally) => tally.measured) / durationMs) * 1_000;
    if (perSecond === 0) return { name, figures: {}, invalid: 'it did nothing in this time' };
    const longestWaitMs = Math.max(...tallies.map((tally) => tally.longestWaitMs));
    return { name, figures: { perSecond, longestWaitMs } };
  } catch (error) {
    return { name, figures: {}, invalid: String(error) };
  }
}

function report(rounds: ReadonlyMap<string, readonly Row[]>): Report {
  const rows = [...rounds].map(([name, own]): Row => {
    const invalid = own.find((row) => row.invalid !== undefined)?.invalid;
    if (invalid !== undefined) return { name, figures: {}, invalid };
    const of = (key: string): number => median(own.map(({ figures }) => figures[key] as number));
    // Round by round, since the speed of the machine drifts.
    const ratios = own.map(({ figures }, round) => {
      const ours = rounds.get(OURS)?.[round]?.figures['perSecond'] ?? Number.NaN;
      return ours / (figures['perSecond'] as number);
    });
    const figures = {
      perSecond: of('perSecond'),
      longestWaitMs: of('longestWaitMs'),
      ours: median(ratios),
    };
    return { name, figures };
  });
  return {
    workload: NAME,
    tables: [{ title: `${PROCESSES} processes of ${TASKS} tasks`, columns: COLUMNS, rows }],
    checks: rows
      .filter(({ name, invalid }) => name !== OURS && invalid === undefined)
      .map(({ name, figures }) => atLeast(`of ${name}`, figures['ours'] ?? 0, MIN_OF_PEERS)),
    notes: [
      'every count of every round was found in the file afterwards',
      'the tasks of a process pass a lease on among themselves; the others hand over each time, through the server',
    ],
    plots: [],
  };
}
