import { RabbitServer } from '../../test/servers/rabbitmq.ts';
import { contender, OURS } from '../contenders.ts';
import { withCrew } from '../crew.ts';
import type { Profiled } from '../jobs.ts';
import { type Effort, type Row, type Workload, warmUpMs } from '../measure.ts';
import { IDLE, type Profile } from '../profile.ts';
import { type BenchServer, withServer } from '../server.ts';
import { publish } from './story.ts';

const MESSAGES = 20_000;
const QUICK_MESSAGES = 1_000;
const PREFETCH = 100;
const RETAIN_MS = 60_000;
const ALL = 'all';

interface Path {
  readonly label: string;
  readonly processes: number;
  /** What is to be done, and it is done anew each time. */
  readonly prepare: () => Promise<Profiled['of']>;
}

export const profile: Workload = {
  name: 'profile',
  summary: 'where the processor time of the client goes on each of the hot paths',
  run: (effort) =>
    withServer(async (server) => {
      const broker = await RabbitServer.start();
      try {
        const paths = pathsOn(server, broker, effort);
        const profiles: Profile[] = [];
        for (const path of paths) profiles.push(await profileOf(server, path));
        return {
          workload: 'profile',
          tables: [
            {
              title: 'µs of processor time of the clients, for each operation',
              columns: paths.map(({ label }, index) => ({ key: `${index}`, label, digits: 2 })),
              rows: rowsOf(profiles),
            },
          ],
          checks: [],
          notes: [
            'sampled by V8 while it ran, which makes all of it a little slower; another run before had the code compiled',
            'an operation is an acquire and release, of the one key its GET and SET as well, and of the consumer a message',
          ],
          plots: [],
        };
      } finally {
        await broker.close();
      }
    }),
};

function pathsOn({ port }: BenchServer, broker: RabbitServer, effort: Effort): Path[] {
  const common = { port, contender: contender(OURS), durationMs: warmUpMs(effort) };
  const turn = { ...common, kind: 'turn', tasks: 1, retainMs: 0 } as const;
  const add = { ...common, kind: 'add', keys: 1, tasks: 8 } as const;
  const source = { amqpUrl: broker.url, prefetch: PREFETCH, partitions: 0 };
  const consume = { ...common, ...source, kind: 'consume' } as const;
  let queues = 0;
  return [
    { label: 'a free key', processes: 1, prepare: async () => turn },
    { label: '64 free keys', processes: 1, prepare: async () => ({ ...turn, tasks: 64 }) },
    { label: 'retained', processes: 1, prepare: async () => ({ ...turn, retainMs: RETAIN_MS }) },
    { label: 'one key, 2 x 8', processes: 2, prepare: async () => add },
    {
      label: 'consumer, one account',
      processes: 1,
      prepare: async () => {
        queues += 1;
        const queue = `profile-${queues}`;
        const count = effort.isQuick ? QUICK_MESSAGES : MESSAGES;
        await publish({ broker, keys: 1 }, { partitions: 0 }, queue, count);
        return { ...consume, queue };
      },
    },
  ];
}

function profileOf({ port }: BenchServer, { processes, prepare }: Path): Promise<Profile> {
  return withCrew(processes, async (crew) => {
    const run = async (): ReturnType<typeof crew.run<'profile'>> =>
      crew.run({ kind: 'profile', port, contender: contender(OURS), of: await prepare() });
    await run();
    const done = await run();
    const operations = done.reduce((sum, one) => sum + one.operations, 0);
    const each: Record<string, number> = {};
    for (const [place, us] of done.flatMap((one) => Object.entries(one.profile))) {
      if (place !== IDLE) each[place] = (each[place] ?? 0) + us / operations;
    }
    each[ALL] = Object.values(each).reduce((sum, us) => sum + us, 0);
    return each;
  });
}

/** The most expensive place is first, after all of them together. */
function rowsOf(profiles: readonly Profile[]): Row[] {
  const costs = new Map<string, number>();
  for (const one of profiles) {
    const all = one[ALL] ?? Number.NaN;
    for (const [place, us] of Object.entries(one)) {
      costs.set(place, (costs.get(place) ?? 0) + us / all);
    }
  }
  const places = [...costs].sort(([, a], [, b]) => b - a).map(([place]) => place);
  return places.map((name) => ({
    name,
    figures: Object.fromEntries(
      profiles.flatMap((one, index) => (name in one ? [[`${index}`, one[name] ?? 0]] : [])),
    ),
  }));
}
