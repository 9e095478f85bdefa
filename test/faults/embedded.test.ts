import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { LeaseLostError, LockManager } from 'leasehold';
import { type EmbeddedStore, embedded } from 'leasehold/embedded';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import type { Claim } from '../../dist/src/core/store.js';

const CHILD = join(import.meta.dirname, 'embedded-child.mjs');
const WAIT = { timeout: 60_000, interval: 5 };

let path: string;
const children: ChildProcess[] = [];
const stores: EmbeddedStore[] = [];

beforeEach(() => {
  path = mkdtempSync(join(tmpdir(), 'leasehold-test-'));
});

afterEach(async () => {
  await Promise.all(children.splice(0).map((child) => end(child)));
  await Promise.all(stores.splice(0).map((store) => store.close()));
  rmSync(path, { recursive: true, force: true });
});

/** A child process, and what it has said. */
function start(role: string, option = ''): { child: ChildProcess; said: unknown[] } {
  const child = fork(CHILD, [role, path, option]);
  const said: unknown[] = [];
  child.on('message', (message) => said.push(message));
  children.push(child);
  return { child, said };
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exited = once(child, 'exit');
  child.kill('SIGKILL');
  await exited;
}

async function openStore(requestTimeoutMs?: number): Promise<EmbeddedStore> {
  const store = embedded(requestTimeoutMs === undefined ? { path } : { path, requestTimeoutMs });
  stores.push(store);
  await store.open(() => undefined);
  return store;
}

function claimOf(key: string, owner: string, more: Partial<Claim> = {}): Claim {
  return { key, owner, units: 1, capacity: 1, ttlMs: 60_000, wait: true, ...more };
}

/** A process that is stopped with the write lock of the leases in its hands. */
async function stopOneInTransaction(): Promise<{ child: ChildProcess; said: unknown[] }> {
  const stopped = start('stopInTransaction');
  await vi.waitFor(() => expect(stopped.said).toContain('stopping'), WAIT);
  await vi.waitFor(() => expect(isStopped(stopped.child)).toBe(true), WAIT);
  return stopped;
}

function isStopped({ pid }: ChildProcess): boolean {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8');
  return /^State:\s+T/m.test(status);
}

describe.runIf(process.platform === 'linux')('a process stopped inside a transaction', () => {
  test('delays the calls of others, not their event loop; they go on when it does', async () => {
    const store = await openStore(200);
    const { child, said } = await stopOneInTransaction();
    let turns = 0;
    let isWaiting = true;
    const turn = (): void => {
      turns += 1;
      if (isWaiting) setTimeout(turn, 1);
    };
    turn();
    await expect(store.claim(claimOf('k', 'a'))).rejects.toThrow('no answer');
    isWaiting = false;
    // The call took 200 ms: a loop that was held up for them would have turned once.
    expect(turns).toBeGreaterThan(5);
    expect(await store.renew([claimOf('k', 'a')])).toMatchObject([{ is: 'unknown' }]);

    child.kill('SIGCONT');
    await vi.waitFor(() => expect(said).toContain('gone on'), WAIT);
    await vi.waitFor(async () => {
      expect(await store.claim(claimOf('k', 'a'))).toMatchObject({ is: 'granted' });
    }, WAIT);
  });

  test('and then killed there leaves the lock to the next, and the leases as they were', async () => {
    const store = await openStore(200);
    await store.claim(claimOf('before', 'a'));
    const { child } = await stopOneInTransaction();
    await expect(store.claim(claimOf('k', 'a'))).rejects.toThrow('no answer');
    await end(child);
    await vi.waitFor(async () => {
      expect(await store.claim(claimOf('k', 'a'))).toMatchObject({ is: 'granted' });
    }, WAIT);
    expect(await store.renew([claimOf('before', 'a')])).toMatchObject([{ is: 'held' }]);
  });

  test('cannot keep a lease from being lost in time', async () => {
    const locks = new LockManager({ store: embedded({ path }), ttlMs: 400 });
    const lease = await locks.acquire('k');
    // The other may be seen to be stopped only after the lease has ended.
    const lost = once(lease.signal, 'abort');
    const { child } = await stopOneInTransaction();
    await lost;
    expect(lease.signal.reason).toBeInstanceOf(LeaseLostError);
    expect(lease.state).toBe('lost');
    await lease.release();
    await end(child);
    await locks.close();
  });

  test('makes an open fail in time, and a close settle; both are done later', async () => {
    const first = await openStore(200);
    const { child } = await stopOneInTransaction();
    await expect(first.claim(claimOf('k', 'a'))).rejects.toThrow('no answer');
    await first.close();
    const second = embedded({ path, openTimeoutMs: 300 });
    stores.push(second);
    await expect(second.open(() => undefined)).rejects.toThrow('did not open in 300 ms');
    child.kill('SIGCONT');
    await vi.waitFor(() => second.open(() => undefined), WAIT);
    expect(await second.claim(claimOf('new', 'a'))).toMatchObject({ is: 'granted' });
    const ours = `${process.pid}-`;
    await vi.waitFor(() => {
      const sockets = readdirSync(join(path, 'sockets'));
      expect(sockets.filter((name) => name.startsWith(ours))).toHaveLength(1);
    }, WAIT);
  });

  test('lets a process that exits go, and is itself the only one to hold others up', async () => {
    const exiting = start('exitStuck');
    const exited = once(exiting.child, 'exit');
    await vi.waitFor(() => expect(exiting.said).toContain('open'), WAIT);
    const stopped = await stopOneInTransaction();
    exiting.child.send('claim');
    await exited;
    await end(stopped.child);
    const store = await openStore();
    expect(await store.claim(claimOf('new', 'a'))).toMatchObject({ is: 'granted' });
  });
});

test('a process that exits in the middle of its transactions leaves the lock to the others', async () => {
  const store = await openStore(20_000);
  for (let delayMs = 0; delayMs < 8; delayMs += 1) {
    const { child, said } = start('exitBusy', String(delayMs));
    const exited = once(child, 'exit');
    await vi.waitFor(() => expect(said).toContain('busy'), WAIT);
    expect(await exited).toEqual([7, null]);
    expect(await store.claim(claimOf('k', 'a'))).toMatchObject({ is: 'granted' });
  }
});

describe('a process that is killed', () => {
  test('as a holder frees its key when its ttl is over', async () => {
    const { child, said } = start('hold', '500');
    await vi.waitFor(() => expect(said).toContain('held'), WAIT);
    const locks = new LockManager({ store: embedded({ path }) });
    const waiting = locks.acquire('k');
    await end(child);
    await (await waiting).release();
    await locks.close();
  });

  test('as a waiter is passed over at once, whatever its ttl', async () => {
    const locks = new LockManager({ store: embedded({ path }), ttlMs: 600_000 });
    const behind = new LockManager({ store: embedded({ path }), ttlMs: 600_000 });
    const lease = await locks.acquire('k');
    const killed = start('hold', '600000');
    await vi.waitFor(() => expect(killed.said).toContain('asked'), WAIT);
    const waiting = behind.acquire('k', { waitMs: 600_000 });
    await (await behind.acquire('other')).release();
    await end(killed.child);
    await lease.release();
    // By its ttl it would take ten minutes.
    await (await waiting).release();
    await Promise.all([locks.close(), behind.close()]);
  });

  test('leaves a socket behind, which the next to open removes', async () => {
    const { child, said } = start('hold', '500');
    await vi.waitFor(() => expect(said).toContain('held'), WAIT);
    await end(child);
    const left = readdirSync(join(path, 'sockets'));
    expect(left).toHaveLength(1);
    await openStore();
    expect(readdirSync(join(path, 'sockets'))).not.toContain(left[0]);
  });
});

/** Processes that add to one number, and say when it is not what it must be. */
class Counters {
  readonly file: string = join(path, 'count.json');
  readonly said: unknown[] = [];

  constructor() {
    writeFileSync(this.file, JSON.stringify({ total: 0, token: '0' }));
  }

  start(times: number, ttlMs: number, isAnew = false): ChildProcess {
    const { child } = start('count', JSON.stringify({ file: this.file, times, ttlMs, isAnew }));
    child.on('message', (message) => this.said.push(message));
    return child;
  }

  get counted(): number {
    return this.said.filter((message) => message === 'counted').length;
  }

  get done(): number {
    return this.said.filter((message) => message === 'done').length;
  }

  get wrong(): unknown[] {
    return this.said.filter((message) => typeof message === 'object');
  }

  get total(): number {
    return JSON.parse(readFileSync(this.file, 'utf8')).total;
  }
}

/** Waits for more counts, so that faults fall anywhere in the work. */
async function waitForMore(counters: Counters, more: number): Promise<void> {
  const before = counters.counted;
  await vi.waitFor(() => expect(counters.counted).toBeGreaterThan(before + more), {
    timeout: 50_000,
    interval: 1,
  });
}

function pick<T>(items: readonly T[]): T {
  return items[Math.floor(Math.random() * items.length)] as T;
}

test('processes that are killed at any moment neither lose an update nor hold the others up', async () => {
  const counters = new Counters();
  // A lease of one that is killed is waited for until its end, and one that is only slow must not lose its own.
  const ttlMs = 6_000;
  const alive = [1, 2, 3].map(() => counters.start(1e9, ttlMs));
  await waitForMore(counters, 30);
  const kills = 4;
  for (let kill = 0; kill < kills; kill += 1) {
    const victim = pick(alive);
    await end(victim);
    alive[alive.indexOf(victim)] = counters.start(1e9, ttlMs);
    await waitForMore(counters, Math.floor(Math.random() * 40));
  }
  await Promise.all(alive.map((child) => end(child)));
  expect(counters.wrong).toEqual([]);
  // The last one of each process that was killed may be written, and not reported.
  const { counted, total } = counters;
  expect(total).toBeGreaterThanOrEqual(counted);
  expect(total).toBeLessThanOrEqual(counted + kills + alive.length);
});

test('processes that are stopped at any moment lose nothing, and count to the last one', async () => {
  const counters = new Counters();
  const times = 400;
  const running = [1, 2, 3].map(() => counters.start(times, 60_000));
  await waitForMore(counters, 3);
  while (counters.done < running.length) {
    const victim = pick(running);
    victim.kill('SIGSTOP');
    await new Promise((resolve) => setTimeout(resolve, Math.random() * 20));
    victim.kill('SIGCONT');
    await new Promise((resolve) => setTimeout(resolve, Math.random() * 10));
  }
  expect(counters.wrong).toEqual([]);
  expect(counters.total).toBe(times * running.length);
});

test('processes that open the folder while others are at work undo nothing of that', async () => {
  const counters = new Counters();
  const [atWork, times] = [600, 25];
  counters.start(atWork, 600_000);
  for (let opening = 0; opening < 3; opening += 1) counters.start(times, 600_000, true);
  // A lease whose end was lost would be waited for until then.
  await vi.waitFor(() => expect(counters.done).toBe(4), WAIT);
  expect(counters.wrong).toEqual([]);
  expect(counters.total).toBe(atWork + 3 * times);
});
