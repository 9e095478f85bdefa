import { ADD_COLUMNS, addInTurns, type Entry, rowOf, waitsOf } from '../adding.ts';
import { contender, NO_LOCK, OURS, peers } from '../contenders.ts';
import { withCrew } from '../crew.ts';
import { tail } from '../histogram.ts';
import { atLeast, type Workload } from '../measure.ts';
import { withServer } from '../server.ts';

const SIZE = { processes: 2, tasks: 50 } as const;
const KEYS = 10_000;
const POLLS_MS = [null, 5] as const;

export const skewed: Workload = {
  name: 'skewed',
  summary: '10,000 keys, the first ones wanted most often (Zipf), the work of hot-key',
  run: (effort) =>
    withServer((server) =>
      withCrew(SIZE.processes, async (crew) => {
        const entries: Entry[] = [
          {
            name: 'limit: no lock, a key for each task',
            contender: contender(NO_LOCK),
            keys: 0,
            ...SIZE,
          },
          ...[contender(OURS), ...peers(effort.isQuick ? [5] : POLLS_MS)].map((one) => ({
            name: one.name,
            contender: one,
            keys: KEYS,
            ...SIZE,
          })),
        ];
        const outcomes = await addInTurns(server, crew, entries, effort);
        const rows = outcomes.map(rowOf);
        const speeds = rows.slice(2).map(({ figures }) => figures['perSecond'] ?? 0);
        const ours = rows[1]?.figures['perSecond'] ?? 0;
        const measured = outcomes.slice(1).filter(({ rounds }) => rounds.length > 0);
        return {
          workload: 'skewed',
          tables: [
            {
              title: `${SIZE.processes} processes of ${SIZE.tasks} tasks`,
              columns: ADD_COLUMNS,
              rows,
            },
          ],
          checks: [atLeast('of the best peer', ours / Math.max(...speeds), 1)],
          notes: [],
          plots: [
            {
              file: 'skewed-waits',
              title: `Waits, ${KEYS.toLocaleString('en')} keys`,
              x: { label: 'wait, ms', isLog: true },
              y: { label: 'share of waits that are longer', isLog: true },
              series: measured.map(({ entry, rounds }) => ({
                name: entry.name,
                points: tail(waitsOf(rounds)),
              })),
            },
          ],
        };
      }),
    ),
};
