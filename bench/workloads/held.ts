import { contender, OURS } from '../contenders.ts';
import { withCrew } from '../crew.ts';
import { atMost, type Workload } from '../measure.ts';
import { withServer } from '../server.ts';

const LEASES = 100_000;
const QUICK_LEASES = 5_000;
const MAX_CORE_SHARE = 0.1;
const MINUTE_MS = 60_000;
const QUICK_MS = 5_000;

/** How long the leases are held in a full run: `BENCH_HELD_MINUTES=10` for what a target speaks of. */
const MINUTES = Number(process.env['BENCH_HELD_MINUTES'] ?? 1);

export const held: Workload = {
  name: 'held',
  summary: '100,000 leases held at once in one process: what their renewal costs',
  run: (effort) =>
    withServer((server) =>
      withCrew(1, async (crew) => {
        const leases = effort.isQuick ? QUICK_LEASES : LEASES;
        const durationMs = effort.isQuick ? QUICK_MS : MINUTES * MINUTE_MS;
        const before = await server.look();
        const [result] = await crew.run({
          kind: 'hold',
          port: server.port,
          contender: contender(OURS),
          leases,
          durationMs,
        });
        const after = await server.look();
        if (result === undefined) throw new Error('there was no answer');
        const { coreShare, heldMs, lost } = result;
        const figures = {
          minutes: heldMs / MINUTE_MS,
          coreShare,
          serverShare: (after.cpuUs - before.cpuUs) / 1_000 / heldMs,
          lost,
        };
        return {
          workload: 'held',
          tables: [
            {
              title: `${leases.toLocaleString('en')} leases with the default ttl of 10 s`,
              columns: [
                { key: 'minutes', label: 'minutes', digits: 1 },
                { key: 'coreShare', label: 'share of a core', digits: 3 },
                { key: 'serverShare', label: 'of a core of the server', digits: 3 },
                { key: 'lost', label: 'lost', digits: 0 },
              ],
              rows: [{ name: 'leasehold', figures }],
            },
          ],
          checks: [
            atMost('share of a core for renewals', coreShare, MAX_CORE_SHARE),
            atMost('leases lost', lost, 0, 0),
          ],
          notes: ['the share of the server includes taking the leases and giving them back'],
          plots: [],
        };
      }),
    ),
};
