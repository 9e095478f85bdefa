import type { Redis } from 'ioredis';
import { LockManager } from 'leasehold';
import { redlock } from 'leasehold/redlock';
import { openContender, peers } from '../contenders.ts';
import { withMasters } from '../masters.ts';
import {
  atLeast,
  compare,
  type Effort,
  RATE_COLUMNS,
  type Row,
  type Subject,
  type Workload,
} from '../measure.ts';
import type { BenchServer } from '../server.ts';

const NODES = 3;
const QUORUM = 2;
const TTL_MS = 10_000;
const MIN_OF_LIMIT = 0.8;
const BARE = 'limit: SET NX PX, compare and delete, at quorum';
const OWN_SCRIPTS = 'the two scripts of leasehold/redlock, at quorum';
const OURS = 'leasehold/redlock';
/** Those that can do it. */
const SINGLE_ONLY = '@verrou/core';

type Clients = readonly ReturnType<BenchServer['client']>[];

export const redlock3: Workload = {
  name: 'redlock',
  summary: 'acquire and release a free key on three independent masters',
  run: (effort) =>
    withMasters(NODES, async (masters) => {
      const rows = await measure(masters, effort);
      const figure = (name: string, key: string): number =>
        rows.find((row) => row.name === name)?.figures[key] ?? 0;
      const best = Math.max(...rows.slice(3).map(({ figures }) => figures['ratio'] ?? 0));
      const ours = figure(OURS, 'ratio');
      return {
        workload: 'redlock',
        tables: [{ title: `one task, one key, ${NODES} masters`, columns: RATE_COLUMNS, rows }],
        checks: [
          atLeast('of SET NX PX, compare and delete, at quorum', ours, MIN_OF_LIMIT),
          atLeast(
            'of its own two scripts, at quorum',
            ours / figure(OWN_SCRIPTS, 'ratio'),
            MIN_OF_LIMIT,
          ),
          atLeast('of the best peer', ours / best, 1),
        ],
        notes: [
          'the first limit is what the published algorithm sends; it has no epochs, and grants again what a node has forgotten',
          'the second row sends what acquire and release of leasehold/redlock send, with nothing around it: what the manager and its rounds add is the difference to the third',
          '@verrou/core has no Redlock',
        ],
        plots: [],
      };
    }),
};

async function measure(masters: readonly BenchServer[], effort: Effort): Promise<Row[]> {
  const clients = masters.map((master) => master.client());
  try {
    return await compare(await subjectsFor(clients), effort);
  } finally {
    // Whatever went wrong, a process with these connections would never end.
    for (const client of clients) client.disconnect();
  }
}

async function subjectsFor(clients: Clients): Promise<Subject[]> {
  const nothing = async (): Promise<void> => {};
  const locks = new LockManager({ store: redlock(clients) });
  // Its store stays open: a script trusts a node while somebody listens there, and is known to it from here on.
  await locks.withLock('first', nothing);
  const subjects: Subject[] = [
    bareSubject(clients),
    await scriptSubject(clients),
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
  return subjects;
}

/** The two commands of the published algorithm on all nodes at once, each awaited at quorum. */
function bareSubject(clients: Clients): Subject {
  const lua =
    "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0";
  let values = 0;
  return {
    name: BARE,
    async operation() {
      values += 1;
      // A key for each operation, since the node that is not waited for may still have the last.
      const key = `bare:${values % 64}`;
      const value = `host:${process.pid}:${values}`;
      await quorum(clients.map((client) => client.set(key, value, 'PX', TTL_MS, 'NX')));
      await quorum(clients.map((client) => client.eval(lua, 1, key, value)));
    },
    close: async () => {},
  };
}

type Command = readonly string[];

/**
 * What a claim and a drop of this package send to all nodes at once, each awaited at quorum: recorded, and sent again with
 * other owners and epochs.
 */
async function scriptSubject(clients: Clients): Promise<Subject> {
  const [claim, drop] = await recorded(clients);
  const [, owner = '', epoch = ''] = /^(\S+) (\d+) /.exec(claim.at(-1) ?? '') ?? [];
  const send = async (
    command: Command,
    as: (text: string) => string,
    right: number,
  ): Promise<void> => {
    const parts = command.map(as) as [string, string];
    const answers = clients.map((client) => client.evalsha(...parts));
    await quorum(answers, (given) => given === right);
  };
  let next = Number(epoch);
  return {
    name: OWN_SCRIPTS,
    async operation() {
      next += 1;
      const proposed = String(next);
      const own = `${owner}${next.toString(36)}`;
      const as = (text: string): string => text.replaceAll(epoch, proposed).replaceAll(owner, own);
      await send(claim, as, 0);
      await send(drop, as, 1);
    },
    close: async () => {},
  };
}

/** The arguments of the two scripts for a key of their own. */
async function recorded(clients: Clients): Promise<readonly [claim: Command, drop: Command]> {
  const [first] = clients;
  if (first === undefined) throw new Error('there is no master');
  const commands: Command[] = [];
  const evalsha = first.evalsha.bind(first) as (...parts: string[]) => Promise<unknown>;
  first.evalsha = ((...parts: string[]) => {
    commands.push(parts);
    return evalsha(...parts);
  }) as Redis['evalsha'];
  const locks = new LockManager({ store: redlock(clients) });
  await locks.withLock('scripts', async () => {});
  // What the client's class has is seen again.
  Reflect.deleteProperty(first, 'evalsha');
  await locks.close();
  const sent = commands
    .map((parts) => parts.map(String))
    .filter((parts) => parts.at(2) === 'lock:scripts');
  const [claim, drop] = sent.slice(-2);
  if (claim === undefined || drop === undefined)
    throw new Error('a claim and a drop are two scripts');
  return [claim, drop];
}

function quorum(
  answers: readonly Promise<unknown>[],
  isRight: (answer: unknown) => boolean = () => true,
): Promise<void> {
  return new Promise((resolve, reject) => {
    let answered = 0;
    for (const answer of answers) {
      answer.then((given) => {
        if (!isRight(given)) reject(new Error(`a node answered ${JSON.stringify(given)}`));
        answered += 1;
        if (answered === QUORUM) resolve();
      }, reject);
    }
  });
}
