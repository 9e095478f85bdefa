/** Values in a folder of this machine, with a fence that a transaction checks: the statements of the README, in LMDB. */
import type { Lease } from 'leasehold';
import { StaleTokenError } from 'leasehold/redis';
import { open } from 'lmdb';
import { removeFolder, temporaryFolder } from '../../servers/processes.ts';
import { FENCED, PLAIN, type Values, type ValuesKind } from './values.ts';

interface Fenced {
  readonly token: string;
  readonly value: string | null;
}

export const lmdbValues: ValuesKind = {
  are: 'in an LMDB environment of the same machine',

  async start() {
    const path = temporaryFolder();
    const onlooker = valuesIn(path);
    return {
      place: { path },
      servers: [],
      onlooker,
      async close() {
        await onlooker.close();
        removeFolder(path);
      },
    };
  },

  connect: (place) => valuesIn(place['path'] as string),
};

function valuesIn(path: string): Values {
  // Processes die here, not machines: nothing has to be on the disk.
  const database = open<Fenced | string, string>({ path, noSync: true, overlappingSync: false });
  const read = (key: string): Fenced | null => {
    database.resetReadTxn();
    return (database.get(FENCED + key) as Fenced | undefined) ?? null;
  };
  /** Raises the fence, and changes the value if that is asked for. */
  async function pass(key: string, lease: Lease, value?: string): Promise<string | null> {
    let stale: string | null = null;
    let before: string | null = null;
    await database.transaction(() => {
      const fence = database.get(FENCED + key) as Fenced | undefined;
      if (fence && fence.token > lease.tokenText) {
        stale = fence.token;
        return;
      }
      before = fence?.value ?? null;
      void database.put(FENCED + key, { token: lease.tokenText, value: value ?? before });
    });
    if (stale !== null) throw new StaleTokenError(key, lease.tokenText, stale);
    return before;
  }
  return {
    getFenced: (key, lease) => pass(key, lease),
    async setFenced(key, value, lease) {
      await pass(key, lease, value);
    },
    async getPlain(key) {
      database.resetReadTxn();
      return (database.get(PLAIN + key) as string | undefined) ?? null;
    },
    async setPlain(key, value) {
      await database.put(PLAIN + key, value);
    },
    peek: async (key) => read(key)?.value ?? null,
    close: () => database.close(),
  };
}
