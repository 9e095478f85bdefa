import { LockManager } from 'leasehold';
import { redlock } from 'leasehold/redlock';
import { openContender, peers } from '../contenders.ts';
import {
  atLeast,
  compare,
  type Effort,
  RATE_COLUMNS,
  type Row,
  type Subject,
  type Workload,
} from '../measure.ts';
import { BenchServer } from '../server.ts';

const NODES = 3;
const QUORUM = 2;
const MIN_OF_LIMIT = 0.8;
const OURS = 'leasehold/redlock';
/** Those that can do it. */
const SINGLE_ONLY = '@verrou/core';

export const redlock3: Workload = {
  name: 'redlock',
  summary: 'acquire and release a free key on three independent masters',
  async run(effort) {
    const servers = await Promise.all(Array.from({ length: NODES }, () => BenchServer.start()));
    try {
      const rows = await measure(servers, effort);
      const speedOf = (row: Row | undefined): number => row?.figures['perSecond'] ?? 0;
      const ours = rows.find(({ name }) => name === OURS);
      const best = Math.max(...rows.slice(2).map(speedOf));
      return {
        workload: 'redlock',
        tables: [{ title: `one task, one key, ${NODES} masters`, columns: RATE_COLUMNS, rows }],
        checks: [
          atLeast('of the bare commands at quorum', ours?.figures['ratio'] ?? 0, MIN_OF_LIMIT),
          atLeast('of the best peer', speedOf(ours) / best, 1),
        ],
        notes: ['@verrou/core has no Redlock'],
        plots: [],
      };
    } finally {
      await Promise.all(servers.map((server) => server.close()));
    }
  },
};

async function measure(servers: readonly BenchServer[], effort: Effort): Promise<Row[]> {
  const clients = servers.map((server) => server.client());
  const nothing = async (): Promise<void> => {};
  const locks = new LockManager({ store: redlock(clients) });
  const subjects: Subject[] = [
    bareSubject(clients),
    {
      name: OURS,
      async operation() {
        const lease = await locks.acquire('key');
        await lease.release();
      },
      close: () => locks.close(),
    },
  ];
  for (const peer of peers([null]).filter(({ package: name }) => name !== SINGLE_ONLY)) {
    try {
      const locker = await openContender(peer, clients);
      subjects.push({
        name: peer.name,
        async operation() {
          await locker.withLock(`${peer.package}:key`, nothing);
        },
        close: nothing,
      });
    } catch (error) {
      subjects.push({
        name: peer.name,
        operation: nothing,
        close: nothing,
        invalid: String(error),
      });
    }
  }
  const rows = await compare(subjects, effort);
  for (const client of clients) client.disconnect();
  return rows;
}

/** The limit: the two commands of the published algorithm on all nodes at once, each awaited at quorum. */
function bareSubject(clients: ReturnType<BenchServer['client']>[]): Subject {
  const lua =
    "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0";
  let values = 0;
  return {
    name: 'limit: SET NX PX, compare and delete, at quorum',
    async operation() {
      values += 1;
      // A key for each operation, since the node that is not waited for may still have the last.
      const key = `bare:${values % 64}`;
      const value = `host:${process.pid}:${values}`;
      await quorum(clients.map((client) => client.set(key, value, 'PX', 10_000, 'NX')));
      await quorum(clients.map((client) => client.eval(lua, 1, key, value)));
    },
    close: async () => {},
  };
}

function quorum(answers: readonly Promise<unknown>[]): Promise<void> {
  return new Promise((resolve, reject) => {
    let answered = 0;
    for (const answer of answers) {
      answer.then(() => {
        answered += 1;
        if (answered === QUORUM) resolve();
      }, reject);
    }
  });
}
