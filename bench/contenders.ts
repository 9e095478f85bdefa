/**
 * The locks that are compared: this package, its peers as their own documentation uses them, and none.
 *
 * Peers are loaded when they are used, since only `bench/package.json` installs them. Each has its defaults, and may be
 * told how often to poll.
 */
import { setTimeout } from 'node:timers/promises';
import { Redis } from 'ioredis';
import { LockManager } from 'leasehold';
import { redis } from 'leasehold/redis';
import { redlock } from 'leasehold/redlock';

export interface Locker {
  /** Runs the work under the lock, and tells how often it gave up before it got it. */
  withLock(key: string, work: () => Promise<void>): Promise<number>;
  close(): Promise<void>;
}

export interface Contender {
  readonly name: string;
  readonly package: string;
  /** How often it polls, in milliseconds; `null` for its own default. */
  readonly pollMs: number | null;
  /** Of this package: how often a lease is passed on inside a process while another waits, where that is no default. */
  readonly maxPasses?: number;
}

type Open = (
  clients: readonly Redis[],
  pollMs: number | null,
  maxPasses?: number,
) => Promise<Locker>;

const TTL_MS = 10_000;
/** So often that no contender ever gives up for having polled too often. */
const RETRIES = 1_000_000;
/** A contender that does not get a lock for so long cannot finish the workload. */
const MAX_WAIT_MS = 60_000;

export const NO_LOCK = 'no lock';
export const OURS = 'leasehold';
/** No lock either: two processes tell each other by a message that it is the other's turn. */
export const BARE_PUBLISH = 'bare PUBLISH';

/** Names of packages that one server is enough for. */
export const PEERS = [
  'redlock 5.0.0-beta.2',
  'redlock 4.2.0',
  'redis-semaphore',
  '@verrou/core',
  'redlock-universal',
] as const;

const OPEN: Readonly<Record<string, Open>> = {
  [NO_LOCK]: async () => ({
    async withLock(_key, work) {
      await work();
      return 0;
    },
    close: async () => {},
  }),

  [BARE_PUBLISH]: async ([given]) => {
    const client = given as Redis;
    const ear = client.duplicate();
    const own = `turn:${process.pid}`;
    let isMine = (await client.rpush('turns', own)) === 1;
    let wake: () => void = () => {};
    ear.on('message', () => {
      isMine = true;
      wake();
    });
    await ear.subscribe(own);
    return {
      async withLock(key, work) {
        if (key !== 'handed') return 0;
        if (!isMine) {
          await new Promise<void>((resolve) => {
            wake = resolve;
          });
        }
        isMine = false;
        await work();
        const other = (await client.lrange('turns', 0, 1)).find((one) => one !== own);
        if (other === undefined) isMine = true;
        else await client.publish(other, '');
        return 0;
      },
      close: async () => ear.disconnect(),
    };
  },

  [OURS]: async (clients, _pollMs, maxPasses) => {
    const store = clients.length === 1 ? redis(clients[0] as Redis) : redlock(clients);
    const fairness = maxPasses === undefined ? {} : { fairness: { maxPasses } };
    const locks = new LockManager({ store, ...fairness });
    return {
      async withLock(key, work) {
        const lease = await locks.acquire(key, { waitMs: MAX_WAIT_MS });
        try {
          await work();
        } finally {
          await lease.release();
        }
        return 0;
      },
      close: () => locks.close(),
    };
  },

  'redlock 5.0.0-beta.2': async (clients, pollMs) => {
    interface Module {
      default: new (
        clients: readonly Redis[],
        settings?: object,
      ) => {
        on(event: 'error', listener: () => void): void;
        acquire(keys: string[], ttlMs: number): Promise<{ release(): Promise<unknown> }>;
      };
    }
    const { default: Redlock } = await load<Module>('redlock');
    const locks = new Redlock(clients, pollMs === null ? undefined : polling(pollMs));
    locks.on('error', () => {});
    return locker(async (key) => {
      const lock = await locks.acquire([key], TTL_MS);
      return () => lock.release();
    });
  },

  'redlock 4.2.0': async (clients, pollMs) => {
    interface Locks {
      on(event: string, listener: () => void): void;
      lock(key: string, ttlMs: number): Promise<{ unlock(): Promise<unknown> }>;
    }
    type Constructor = new (clients: readonly Redis[], settings?: object) => Locks;
    const { default: Redlock } = await load<{ default: Constructor }>('redlock4');
    const locks = new Redlock(clients, pollMs === null ? undefined : polling(pollMs));
    locks.on('clientError', () => {});
    return locker(async (key) => {
      const lock = await locks.lock(key, TTL_MS);
      return () => lock.unlock();
    });
  },

  'redis-semaphore': async (clients, pollMs) => {
    type Mutex = { acquire(): Promise<void>; release(): Promise<void> };
    type Constructor = new (client: unknown, key: string, options?: object) => Mutex;
    const { Mutex, RedlockMutex } = await load<{ Mutex: Constructor; RedlockMutex: Constructor }>(
      'redis-semaphore',
    );
    const options = pollMs === null ? undefined : { retryInterval: pollMs };
    return locker(async (key) => {
      const mutex =
        clients.length === 1
          ? new Mutex(clients[0], key, options)
          : new RedlockMutex(clients, key, options);
      await mutex.acquire();
      return () => mutex.release();
    });
  },

  '@verrou/core': async ([client], pollMs) => {
    interface Lock {
      acquire(options?: object): Promise<boolean>;
      release(): Promise<void>;
    }
    interface Module {
      Verrou: new (
        options: object,
      ) => {
        createLock(key: string, ttlMs: number): Lock;
      };
    }
    const { Verrou } = await load<Module>('@verrou/core');
    const { redisStore } = await load<{ redisStore: (options: object) => unknown }>(
      '@verrou/core/drivers/redis',
    );
    const verrou = new Verrou({
      default: 'redis',
      stores: { redis: { driver: redisStore({ connection: client }) } },
    });
    const options = pollMs === null ? undefined : { retry: { delay: pollMs } };
    return locker(async (key) => {
      const lock = verrou.createLock(key, TTL_MS);
      if (!(await lock.acquire(options))) throw new Error('not acquired');
      return () => lock.release();
    });
  },

  'redlock-universal': async (clients, pollMs) => {
    interface Lock {
      acquire(): Promise<unknown>;
      release(handle: unknown): Promise<unknown>;
    }
    interface Module {
      IoredisAdapter: new (client: Redis | undefined) => unknown;
      createLock: (options: object) => Lock;
      createRedlock: (options: object) => Lock;
    }
    const { IoredisAdapter, createLock, createRedlock } = await load<Module>('redlock-universal');
    const adapters = clients.map((client) => new IoredisAdapter(client));
    const retries = pollMs === null ? {} : { retryAttempts: RETRIES, retryDelay: pollMs };
    return locker(async (key) => {
      const options = { key, ttl: TTL_MS, ...retries };
      const lock =
        adapters.length === 1
          ? createLock({ adapter: adapters[0], ...options })
          : createRedlock({ adapters, ...options });
      const handle = await lock.acquire();
      return () => lock.release(handle);
    });
  },
};

/** Each peer with its defaults, and polling so often. */
export function peers(pollMs: readonly (number | null)[]): Contender[] {
  return PEERS.flatMap((name) => pollMs.map((poll) => contender(name, poll)));
}

export function contender(name: string, pollMs: number | null = null): Contender {
  const suffix =
    name === OURS || name === NO_LOCK || name === BARE_PUBLISH
      ? ''
      : pollMs === null
        ? ', its defaults'
        : `, polls every ${pollMs} ms`;
  return { name: `${name}${suffix}`, package: name, pollMs };
}

/** Rejects with what is missing, or does not run here. */
export function openContender(of: Contender, clients: readonly Redis[]): Promise<Locker> {
  const open = OPEN[of.package];
  if (open === undefined) throw new Error(`there is no contender ${of.package}`);
  return open(clients, of.pollMs, of.maxPasses);
}

/** How many commands all clients of this process have sent, whoever made them. */
export function commandsSent(): number {
  return sent;
}

let sent = 0;
const commands = Redis.prototype as { sendCommand: (this: Redis, ...args: never[]) => unknown };
const send = commands.sendCommand;
commands.sendCommand = function count(...args) {
  sent += 1;
  return send.apply(this, args);
};

export function connect(port: number): Redis {
  const client = new Redis(port, '127.0.0.1');
  client.on('error', () => {});
  return client;
}

function polling(pollMs: number): object {
  return { retryCount: RETRIES, retryDelay: pollMs, retryJitter: pollMs / 2 };
}

/** A peer that gives up tries again: the caller still wants the lock, and waits from the first time on. */
function locker(acquire: (key: string) => Promise<() => Promise<unknown>>): Locker {
  return {
    async withLock(key, work) {
      const startMs = performance.now();
      for (let gaveUp = 0; ; gaveUp += 1) {
        let release: () => Promise<unknown>;
        try {
          release = await acquire(key);
        } catch (error) {
          if (performance.now() - startMs > MAX_WAIT_MS) throw error;
          // Some fail without any delay of their own for a while.
          await setTimeout(1);
          continue;
        }
        try {
          await work();
        } finally {
          await release();
        }
        return gaveUp;
      }
    },
    close: async () => {},
  };
}

async function load<Module>(name: string): Promise<Module> {
  const loaded = (await import(name)) as { default?: unknown };
  // A package in CommonJS that was compiled from a module has its exports one level deeper.
  const inner = loaded.default as { default?: unknown } | undefined;
  return (inner?.default === undefined ? loaded : inner) as Module;
}
