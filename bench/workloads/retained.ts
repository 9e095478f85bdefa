import { join } from 'node:path';
import { embedded } from 'leasehold/embedded';
import { memory } from 'leasehold/memory';
import { redis } from 'leasehold/redis';
import { contender, PEERS } from '../contenders.ts';
import {
  atLeast,
  atMost,
  type Check,
  compare,
  inFolder,
  RATE_COLUMNS,
  type Row,
  type Workload,
} from '../measure.ts';
import { withServer } from '../server.ts';
import { asyncMutexSubject, floorSubject, lockSubject, peerSubject } from '../subjects.ts';

const MIN_PER_SECOND = 1_000_000;
const MAX_P50_US = 2;
const RETAINED = { retainMs: 60_000 };

export const retained: Workload = {
  name: 'retained',
  summary: 'acquire and release a key whose lease is retained: no I/O',
  run: (effort) =>
    withServer((server) =>
      inFolder(async (folder) => {
        const client = server.client();
        const path = join(folder, 'locks');
        const peersHere = PEERS.map((name) => peerSubject(contender(name), client));
        const rows = await compare(
          [
            floorSubject(),
            lockSubject('leasehold, memory store', memory(), RETAINED),
            lockSubject('leasehold, embedded store', embedded({ path }), RETAINED),
            lockSubject('leasehold, Redis store', redis(client), RETAINED),
            await asyncMutexSubject(),
            ...(await Promise.all(peersHere)),
          ],
          effort,
        );
        client.disconnect();
        return {
          workload: 'retained',
          tables: [{ title: 'one task, one key', columns: RATE_COLUMNS, rows }],
          checks: rows.slice(1, 4).flatMap(targets),
          notes: ['no peer has anything like it, so that each of their operations goes to Redis'],
          plots: [],
        };
      }),
    ),
};

function targets({ name, figures }: Row): Check[] {
  return [
    atLeast(`${name}: acquire and release a second`, figures['perSecond'] ?? 0, MIN_PER_SECOND, 0),
    atMost(`${name}: p50 µs`, figures['p50Us'] ?? Infinity, MAX_P50_US),
  ];
}
