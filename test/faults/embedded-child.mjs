/**
 * A process of its own, for the fault tests of the embedded store. Told what to do by its arguments; talks to its parent
 * by messages.
 */
import { once } from 'node:events';
import { readdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { LockManager } from 'leasehold';
import { embedded } from 'leasehold/embedded';

const [role, path, option] = process.argv.slice(2);

function say(message) {
  process.send?.(message);
}

/** Stops itself inside a transaction, with the write lock of the leases in its hands. */
async function stopInTransaction() {
  const { open } = await import('lmdb');
  const leases = readdirSync(path).find((name) => name.startsWith('leases-'));
  const database = open({ path: join(path, leases), noSubdir: false, noSync: true });
  say('stopping');
  setImmediate(() => {
    database.transactionSync(() => process.kill(process.pid, 'SIGSTOP'));
    say('gone on');
  });
}

/** Takes a lock and keeps it, or waits for it; says when it has it. */
async function hold() {
  const locks = new LockManager({ store: embedded({ path }), ttlMs: Number(option) });
  const waiting = locks.acquire('k', { waitMs: 600_000 });
  // A lock of another key is granted after the first claim was answered.
  await (await locks.acquire(`other:${process.pid}`)).release();
  say('asked');
  await waiting;
  say('held');
  setInterval(() => undefined, 1_000);
}

/**
 * Adds one to a number in a file, again and again, by reading and writing it in separate turns; each time it looks
 * whether somebody else was there. It may open the folder anew for each.
 */
async function count() {
  const { file, times, ttlMs, isAnew } = JSON.parse(option);
  const begin = () => new LockManager({ store: embedded({ path }), ttlMs, waitMs: 600_000 });
  let locks = begin();
  for (let n = 0; n < times; n += 1) {
    if (isAnew && n > 0) {
      await locks.close();
      locks = begin();
    }
    await locks.withLock('k', async (lease) => {
      const before = JSON.parse(readFileSync(file, 'utf8'));
      if (BigInt(before.token) >= lease.token)
        say({ wrong: `token ${lease.token} after ${before.token}` });
      const mine = { total: before.total + 1, token: String(lease.token), by: process.pid };
      // Whole or not at all: this process may be killed at any line.
      writeFileSync(`${file}-${process.pid}`, JSON.stringify(mine));
      renameSync(`${file}-${process.pid}`, file);
      await new Promise((resolve) => setImmediate(resolve));
      const after = readFileSync(file, 'utf8');
      if (after !== JSON.stringify(mine))
        say({ wrong: `${after} instead of ${JSON.stringify(mine)}` });
    });
    say('counted');
  }
  await locks.close();
  say('done');
  process.disconnect?.();
}

/** Makes long transactions without a pause, and exits in the middle of them. */
async function exitBusy() {
  const store = embedded({ path });
  await store.open(() => undefined);
  const owner = `${process.pid}`;
  const claim = (n) => ({ key: `k${n}`, owner, units: 1, capacity: 1, ttlMs: 100, wait: false });
  const claims = Array.from({ length: 499 }, (_, n) => claim(n));
  const [first] = Array.from({ length: 40 }, () => claims.map((one) => store.claim(one)));
  await Promise.all(first);
  say('busy');
  await new Promise((resolve) => setTimeout(resolve, Number(option)));
  process.exit(7);
}

/** Makes a call that is not answered, and exits. */
async function exitStuck() {
  const store = embedded({ path, requestTimeoutMs: 50 });
  await store.open(() => undefined);
  say('open');
  await once(process, 'message');
  const claim = { key: 'k', owner: 'o', units: 1, capacity: 1, ttlMs: 100, wait: true };
  await store.claim(claim).catch(() => undefined);
  process.exit(7);
}

const roles = { stopInTransaction, hold, count, exitBusy, exitStuck };
await roles[role]();
