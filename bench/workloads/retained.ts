import { join } from 'node:path';
import { embedded } from 'leasehold/embedded';
import { memory } from 'leasehold/memory';
import { type Check, compare, inFolder, type Row, type Workload, whole } from '../measure.ts';
import { floorSubject, lockSubject } from '../subjects.ts';

const MIN_PER_SECOND = 1_000_000;
const MAX_P50_US = 2;
const RETAINED = { retainMs: 60_000 };

export const retained: Workload = {
  name: 'retained',
  summary: 'acquire and release a key whose lease is retained: no I/O',
  run: (effort) =>
    inFolder(async (folder) => {
      const rows = await compare(
        [
          floorSubject(),
          lockSubject('memory', memory(), RETAINED),
          lockSubject('embedded', embedded({ path: join(folder, 'locks') }), RETAINED),
        ],
        effort,
      );
      const checks = rows.slice(1).flatMap(targets);
      return { workload: 'retained', rows, checks, notes: [] };
    }),
};

function targets(row: Row): Check[] {
  return [
    {
      what: `${row.name}: acquire+release a second`,
      measured: whole(row.perSecond),
      target: `>= ${whole(MIN_PER_SECOND)}`,
      met: row.perSecond >= MIN_PER_SECOND,
    },
    {
      what: `${row.name}: p50`,
      measured: `${row.p50Us.toFixed(2)} us`,
      target: `<= ${MAX_P50_US} us`,
      met: row.p50Us <= MAX_P50_US,
    },
  ];
}
