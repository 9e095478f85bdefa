import { join } from 'node:path';
import { embedded } from 'leasehold/embedded';
import { memory } from 'leasehold/memory';
import { compare, inFolder, type Workload } from '../measure.ts';
import { floorSubject, lockSubject } from '../subjects.ts';

export const uncontended: Workload = {
  name: 'uncontended',
  summary: 'acquire and release a free key: a claim and a drop each time',
  run: (effort) =>
    inFolder(async (folder) => {
      const rows = await compare(
        [
          floorSubject(),
          lockSubject('memory', memory(), {}),
          lockSubject('embedded', embedded({ path: join(folder, 'locks') }), {}),
        ],
        effort,
      );
      return { workload: 'uncontended', rows, checks: [], notes: [] };
    }),
};
