/**
 * An LMDB environment that several processes write to, and open, at any time.
 *
 * Whoever opens an environment sets the number of the last transaction, which all processes share, to what it has read a
 * moment before (`mdb_env_open2` in the LMDB of lmdb 3.5.6, and of versions before). What was committed meanwhile is
 * overwritten by the next writer: transactions are lost, or the environment is damaged. So nobody may open one while
 * another process is in a transaction there. The lock for that is a second environment, the gate, which nobody ever
 * writes to, so that the number in it never changes: a transaction on it holds its lock and leaves nothing behind, and the
 * lock is free again when its process is killed.
 */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import type { Key as LmdbKey, RootDatabase } from 'lmdb';
import type { ExitGuard } from './exit-guard.ts';

/** Threads that may read an environment at once, of all processes together. Engines read in transactions only. */
const MAX_READERS = 1_024;
const GATE = 'gate';
/** Nothing is ever in it. */
const GATE_BYTES = 65_536;

/** Loads `lmdb`, which the application installs. */
async function loadLmdb(): Promise<typeof import('lmdb')> {
  try {
    return await import('lmdb');
  } catch (error) {
    throw new Error('leasehold/embedded needs LMDB: npm i lmdb', { cause: error });
  }
}

export interface EnvironmentOptions {
  /** The folder of the environment. */
  readonly path: string;
  readonly guard: ExitGuard;
  /** Address space, in bytes; it takes what it needs on disk, and grows beyond when it must. */
  readonly mapBytes: number;
  /** Whether each commit must reach the disk. */
  readonly synced: boolean;
  readonly keyEncoding?: 'binary';
}

export class Environment<Key extends LmdbKey> {
  readonly database: RootDatabase<unknown, Key>;
  readonly #gate: RootDatabase<unknown, Key>;
  readonly #guard: ExitGuard;

  private constructor(
    database: RootDatabase<unknown, Key>,
    gate: RootDatabase<unknown, Key>,
    guard: ExitGuard,
  ) {
    this.database = database;
    this.#gate = gate;
    this.#guard = guard;
  }

  static async open<Key extends LmdbKey>(options: EnvironmentOptions): Promise<Environment<Key>> {
    const { path, guard, mapBytes, synced, keyEncoding } = options;
    const { open } = await loadLmdb();
    const openOne = (folder: string, more: object): RootDatabase<unknown, Key> =>
      open<unknown, Key>({
        path: folder,
        noSubdir: false,
        overlappingSync: false,
        encoding: 'msgpack',
        maxReaders: MAX_READERS,
        permissionsMode: 0o600,
        ...(keyEncoding && { keyEncoding }),
        ...more,
      } as Parameters<typeof open>[0]);
    const gatePath = join(path, GATE);
    mkdirSync(gatePath, { recursive: true, mode: 0o700 });
    return guard.run(() => {
      const gate = openOne(gatePath, { noSync: true, mapSize: GATE_BYTES });
      const database = gate.transactionSync(() =>
        openOne(path, { noSync: !synced, mapSize: mapBytes }),
      );
      return new Environment(database, gate, guard);
    });
  }

  /** Runs the work in a write transaction; what it throws undoes all of it. */
  transaction<T>(work: () => T): T {
    return this.#guard.run(() =>
      this.#gate.transactionSync(() => this.database.transactionSync(work)),
    );
  }

  async close(): Promise<void> {
    await this.database.close();
    await this.#gate.close();
  }
}
