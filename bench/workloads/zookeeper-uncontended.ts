/** A free key on ZooKeeper, against the two requests that any lock there is made of, through the same client. */
import { zookeeper } from 'leasehold/zookeeper';
import client from 'node-zookeeper-client';
import { ZooKeeperServer } from '../../test/servers/zookeeper.ts';
import {
  atLeast,
  compare,
  type Effort,
  RATE_COLUMNS,
  type Report,
  type Subject,
  type Table,
  type Workload,
} from '../measure.ts';
import { lockSubject } from '../subjects.ts';

const NAME = 'zookeeper-uncontended';
const TASKS = [1, 16] as const;
const MIN_OF_LIMIT = 0.9;
const OURS = 'leasehold';
/** Rounds are so many times as short, and as many: what else the machine does is longer than a round. */
const SHORTER = 5;
const MORE = 10;
/** With fewer, the two are compared while one of them is compiled already and the other is not. */
const WARM_UP_OPERATIONS = 4_000;
/** The server's default. A test's servers look far more often, and what uses a key alone begins anew each time. */
const CONTAINER_CHECK_MS = 60_000;

export const zookeeperUncontended: Workload = {
  name: NAME,
  summary: 'acquire and release a free key on ZooKeeper, against creating and deleting a node',
  async run(effort) {
    const server = await ZooKeeperServer.start({ containerCheckMs: CONTAINER_CHECK_MS });
    try {
      const tables: Table[] = [];
      for (const tasks of TASKS) tables.push(await measure(server, tasks, effort));
      return report(tables);
    } finally {
      await server.close();
    }
  },
};

async function measure(server: ZooKeeperServer, tasks: number, effort: Effort): Promise<Table> {
  const subjects = [
    await bareSubject(server, tasks),
    lockSubject(OURS, zookeeper({ connect: server.address }), {}, (task) => `key:${task}`),
  ];
  if (!effort.isQuick) for (const subject of subjects) await warmUp(subject);
  const short = effort.isQuick
    ? effort
    : { ...effort, rounds: effort.rounds * MORE, roundMs: effort.roundMs / SHORTER };
  const rows = await compare(subjects, short, tasks);
  const title = tasks === 1 ? 'one task' : `${tasks} tasks with a key each`;
  return { title, columns: RATE_COLUMNS, rows };
}

async function warmUp(subject: Subject): Promise<void> {
  for (let done = 0; done < WARM_UP_OPERATIONS; done += 1) await subject.operation(0);
}

/** Creates an ephemeral, sequential node, and deletes it. No look whether it is the first. */
async function bareSubject(server: ZooKeeperServer, tasks: number): Promise<Subject> {
  const bare = client.createClient(server.address);
  await new Promise<void>((resolve) => {
    bare.once('connected', () => resolve());
    bare.connect();
  });
  const mode = client.CreateMode.EPHEMERAL_SEQUENTIAL;
  const create = (path: string, as: number): Promise<string> =>
    new Promise((resolve, reject) => {
      bare.create(path, Buffer.alloc(0), as, (error, made) =>
        error ? reject(error) : resolve(made),
      );
    });
  const parents = new Map<number, Promise<string>>();
  const name = `host:${process.pid}:nonce-1000000-1000000-`;
  return {
    name: 'limit: create and delete',
    async operation(task) {
      const path = `/bare-${tasks}-${task}`;
      let parent = parents.get(task);
      if (parent === undefined) {
        parent = create(path, client.CreateMode.PERSISTENT);
        parents.set(task, parent);
      }
      const node = await create(`${await parent}/${name}`, mode);
      await new Promise<void>((resolve, reject) => {
        bare.remove(node, (error) => (error ? reject(error) : resolve()));
      });
    },
    close: async () => bare.close(),
  };
}

function report(tables: readonly Table[]): Report {
  return {
    workload: NAME,
    tables,
    // More tasks measure how fast the client and the server are on the same two cores.
    checks: tables
      .slice(0, 1)
      .map(({ title, rows }) =>
        atLeast(
          `${title}: of create and delete`,
          rows.find(({ name }) => name === OURS)?.figures['ratio'] ?? 0,
          MIN_OF_LIMIT,
        ),
      ),
    notes: ['one server that writes its log without waiting for the disk'],
    plots: [],
  };
}
