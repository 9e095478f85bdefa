/** A folder of this machine. There is no server to break, and no network. */
import { join } from 'node:path';
import { embedded } from 'leasehold/embedded';
import { removeFolder, temporaryFolder } from '../../servers/processes.ts';
import { lmdbValues } from '../values/lmdb.ts';
import type { EngineKind } from './engine.ts';

export const embeddedEngine: EngineKind = {
  weakness: 'none',
  keepsOrder: true,
  valuesAre: 'in an LMDB environment of the same machine',

  async start() {
    const folder = temporaryFolder();
    const locks = join(folder, 'locks');
    const values = lmdbValues(join(folder, 'values'));
    return {
      place: { locks, values: join(folder, 'values') },
      servers: [],
      values,
      async leftovers() {
        const store = embedded({ path: locks });
        await store.open(() => {});
        const keys = (await store.inspect()).map(({ key }) => key);
        await store.close();
        return keys;
      },
      async close() {
        await values.close();
        removeFolder(folder);
      },
    };
  },

  makeStore: (place) => ({
    store: embedded({ path: place['locks'] as string }),
    close: () => {},
  }),
  makeValues: (place) => lmdbValues(place['values'] as string),
};
