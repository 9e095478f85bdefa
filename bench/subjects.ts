import { type AcquireOptions, type LeaseStore, LockManager } from 'leasehold';
import type { Subject } from './measure.ts';

/** Acquire and release of one key, again and again, by one task. */
export function lockSubject(name: string, store: LeaseStore, options: AcquireOptions): Subject {
  const locks = new LockManager({ store });
  return {
    name,
    async operation() {
      const lease = await locks.acquire('key', options);
      await lease.release();
    },
    close: () => locks.close(),
  };
}

/** The limit: the least that waiting in line inside a process can cost. No expiry, no token, no other process. */
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
    name: 'floor: a chain of promises',
    async operation() {
      const release = await acquire();
      await release();
    },
    close: async () => {},
  };
}
