import { join } from 'node:path';
import { embedded } from 'leasehold/embedded';
import { memory } from 'leasehold/memory';
import { redis } from 'leasehold/redis';
import { peers } from '../contenders.ts';
import { compare, inFolder, RATE_COLUMNS, type Workload } from '../measure.ts';
import { withServer } from '../server.ts';
import { bareSubject, lockSubject, peerSubject } from '../subjects.ts';

export const uncontended: Workload = {
  name: 'uncontended',
  summary: 'acquire and release a free key, one after the other: a claim and a drop each time',
  run: (effort) =>
    withServer((server) =>
      inFolder(async (folder) => {
        const client = server.client();
        const rows = await compare(
          [
            bareSubject('limit: SET NX PX, compare and delete', client),
            lockSubject('leasehold', redis(client), {}),
            ...(await Promise.all(peers([null]).map((peer) => peerSubject(peer, client)))),
            lockSubject('leasehold, memory store', memory(), {}),
            lockSubject('leasehold, embedded store', embedded({ path: join(folder, 'locks') }), {}),
          ],
          effort,
        );
        client.disconnect();
        return {
          workload: 'uncontended',
          tables: [{ title: 'one task, one key', columns: RATE_COLUMNS, rows }],
          checks: [],
          notes: [],
          plots: [],
        };
      }),
    ),
};
