/** A folder of this machine. There is no server to break, and no network. */
import { embedded } from 'leasehold/embedded';
import { removeFolder, temporaryFolder } from '../../servers/processes.ts';
import { lmdbValues } from '../values/lmdb.ts';
import type { EngineKind } from './engine.ts';

export const embeddedEngine: EngineKind = {
  weakness: 'none',
  keepsOrder: true,
  hasLinks: false,
  values: lmdbValues,

  async start() {
    const path = temporaryFolder();
    return {
      place: { path },
      servers: [],
      async leftovers() {
        const store = embedded({ path });
        await store.open(() => {});
        const keys = (await store.inspect()).map(({ key }) => key);
        await store.close();
        return keys;
      },
      async close() {
        removeFolder(path);
      },
    };
  },

  makeStore: (place) => ({
    store: embedded({ path: place['path'] as string }),
    close: () => {},
  }),
};
