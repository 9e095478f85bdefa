/** Ways to take and give back a lock in this process, for `compare`. */
import type { Redis } from 'ioredis';
import { type AcquireOptions, type LeaseStore, LockManager } from 'leasehold';
import { type Contender, openContender } from './contenders.ts';
import type { Subject } from './measure.ts';

/** The same key for all tasks, or one for each. */
type KeyOf = (task: number) => string;
const ONE_KEY: KeyOf = () => 'key';

/** Acquire and release, again and again. */
export function lockSubject(
  name: string,
  store: LeaseStore,
  options: AcquireOptions,
  keyOf: KeyOf = ONE_KEY,
): Subject {
  const locks = new LockManager({ store });
  return {
    name,
    async operation(task) {
      const lease = await locks.acquire(keyOf(task), options);
      await lease.release();
    },
    close: () => locks.close(),
  };
}

/** A contender, or the reason why it does not run here. */
export async function peerSubject(
  of: Contender,
  client: Redis,
  keyOf: KeyOf = ONE_KEY,
): Promise<Subject> {
  const nothing = async (): Promise<void> => {};
  try {
    const locker = await openContender(of, [client]);
    return {
      name: of.name,
      async operation(task) {
        await locker.withLock(`${of.package}:${keyOf(task)}`, nothing);
      },
      close: () => locker.close(),
    };
  } catch (error) {
    return { name: of.name, operation: nothing, close: nothing, invalid: String(error) };
  }
}

/** The limit on Redis: the two commands that a lock of the published algorithm is made of, and nothing around them. */
export function bareSubject(name: string, client: Redis, keyOf: KeyOf = ONE_KEY): Subject {
  const lua =
    "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0";
  client.defineCommand('compareAndDelete', { numberOfKeys: 1, lua });
  const commands = client as Redis & {
    compareAndDelete(key: string, value: string): Promise<number>;
  };
  let values = 0;
  return {
    name,
    async operation(task) {
      const key = `bare:${keyOf(task)}`;
      values += 1;
      const value = `host:${process.pid}:${values}`;
      await commands.set(key, value, 'PX', 10_000, 'NX');
      await commands.compareAndDelete(key, value);
    },
    close: async () => {},
  };
}

/** The limit in a process: the least that waiting in line can cost. No expiry, no token, no other process. */
export function floorSubject(): Subject {
  let last: Promise<void> = Promise.resolve();
  const acquire = async (): Promise<() => Promise<void>> => {
    const before = last;
    let done: () => void = () => {};
    last = new Promise((resolve) => {
      done = resolve;
    });
    await before;
    return async () => done();
  };
  return {
    name: 'limit: a chain of promises',
    async operation() {
      const release = await acquire();
      await release();
    },
    close: async () => {},
  };
}

/** The usual mutex of one process. */
export async function asyncMutexSubject(): Promise<Subject> {
  const name = 'async-mutex (one process only)';
  try {
    const packageName = 'async-mutex';
    const { Mutex } = (await import(packageName)) as {
      Mutex: new () => { acquire(): Promise<() => void> };
    };
    const mutex = new Mutex();
    return {
      name,
      async operation() {
        const release = await mutex.acquire();
        release();
      },
      close: async () => {},
    };
  } catch (error) {
    return {
      name,
      operation: async () => {},
      close: async () => {},
      invalid: String(error),
    };
  }
}
