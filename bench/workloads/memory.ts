import { contender, OURS } from '../contenders.ts';
import { withCrew } from '../crew.ts';
import { atMost, type Workload } from '../measure.ts';
import { withServer } from '../server.ts';

const COUNT = 100_000;
const MAX_LEASE_BYTES = 1_000;
const MAX_WAITER_BYTES = 500;

export const memory: Workload = {
  name: 'memory',
  summary: 'bytes of the heap for each held lease and each local waiter',
  run: () =>
    withServer((server) =>
      withCrew(
        1,
        async (crew) => {
          const [result] = await crew.run({
            kind: 'weigh',
            port: server.port,
            contender: contender(OURS),
            count: COUNT,
          });
          if (result === undefined) throw new Error('there was no answer');
          const { leaseBytes, waiterBytes } = result;
          return {
            workload: 'memory',
            tables: [
              {
                title: `${COUNT.toLocaleString('en')} leases, and a tenth of it waiters`,
                columns: [{ key: 'bytes', label: 'bytes each', digits: 0 }],
                rows: [
                  {
                    name: 'a held lease, each of a key of its own',
                    figures: { bytes: leaseBytes },
                  },
                  { name: 'a local waiter of one key', figures: { bytes: waiterBytes } },
                ],
              },
            ],
            checks: [
              atMost('bytes of a held lease', leaseBytes, MAX_LEASE_BYTES, 0),
              atMost('bytes of a local waiter', waiterBytes, MAX_WAITER_BYTES, 0),
            ],
            notes: [
              'the heap after a full collection, with the promise and the name that the caller keeps',
            ],
            plots: [],
          };
        },
        ['--expose-gc'],
      ),
    ),
};
