/**
 * A client of Redlock that is stopped while its claim is between the nodes: some have accepted it, others get it later,
 * and it learns of that when its time is over and somebody else holds the key.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { afterEach, expect, test } from 'vitest';
import { until } from '../servers/processes.ts';
import { TcpProxy } from '../servers/proxy.ts';
import { lane, TOOLS } from '../servers/require.ts';
import { Masters } from './redlock-masters.ts';

const CHILD = fileURLToPath(new URL('redlock-child.mjs', import.meta.url));
const KEY = 'order:7';
const LOCK = `lock:${KEY}`;
/** Of the one that is stopped: the other waits until it is over, and a machine that stalls must not use it up. */
const TTL_MS = 3_000;
/** Longer than any run. */
const LONG_MS = 60_000;

lane('a client of Redlock that is stopped between the nodes', TOOLS.redis, () => {
  const closers: (() => unknown)[] = [];
  afterEach(async () => {
    for (const close of closers.splice(0).reverse()) await close();
  });

  /** Whether it believes to hold the key that it was told. */
  async function answerOf(child: ChildProcess): Promise<boolean> {
    const [{ holds }] = (await once(child, 'message')) as [{ holds: boolean }];
    return holds;
  }

  test.each([
    ['the others get its claim when somebody else has the key', 1],
    ['the others accept its claim late', 3],
  ])('%s', async (_, reached) => {
    const masters = await Masters.start(3);
    closers.push(() => masters.close());
    const proxies = await Promise.all(masters.servers.map(({ port }) => TcpProxy.start(port)));
    closers.push(() => Promise.all(proxies.map((proxy) => proxy.close())));
    const child = fork(CHILD, [String(TTL_MS), String(LONG_MS), ...masters.urls(proxies)]);
    closers.push(() => child.kill('SIGKILL'));
    await answerOf(child);
    const manager = () => {
      // No node restarts, and a new one need not abstain.
      const options = { durable: true, maxTtlMs: LONG_MS, requestTimeoutMs: 10_000 };
      return masters.manager({ ttlMs: LONG_MS, store: masters.store(options) });
    };
    const other = manager();
    await other.withLock('warm-up', async () => {});

    const ownerOn = async (node: number): Promise<string | undefined> => {
      const value = await masters.servers[node]?.command('GET', LOCK);
      return typeof value === 'string' ? value.split(' ')[0] : undefined;
    };
    const isFree = async () => {
      const owners = await Promise.all([0, 1, 2].map(ownerOn));
      return owners.every((owner) => owner === undefined);
    };
    const [, second, third] = proxies as [TcpProxy, TcpProxy, TcpProxy];
    let stopped: string | undefined;
    let answer: Promise<boolean> | undefined;
    await until('it is stopped between the nodes', async () => {
      for (const proxy of [second, third]) proxy.blackhole('requests');
      let isOver = false;
      answer = answerOf(child).finally(() => {
        isOver = true;
      });
      child.send(KEY);
      await until('the first node has its claim', async () => {
        stopped = await ownerOn(0);
        return isOver || stopped !== undefined;
      });
      child.kill('SIGSTOP');
      if ((await ownerOn(0)) === stopped && !isOver) return true;
      // It has given up already: once more, since the machine was slow.
      child.kill('SIGCONT');
      for (const proxy of [second, third]) proxy.forward();
      await answer;
      await until('nothing of it is left', isFree);
      return false;
    });
    if (reached === 3) {
      for (const proxy of [second, third]) proxy.forward();
      await until('the others have it as well', async () => {
        return (await ownerOn(1)) === stopped && (await ownerOn(2)) === stopped;
      });
    }

    const lease = await other.acquire(KEY);
    expect(await ownerOn(1)).not.toBe(stopped);
    // What it had sent before goes on to the nodes now, and so does what it says when it goes on.
    for (const proxy of proxies) proxy.forward();
    child.kill('SIGCONT');
    expect(await answer).toBe(false);
    // Once all that it has sent is done, the ends of its attempt included, the key is still the other's.
    child.send('another');
    await answerOf(child);
    expect(await manager().tryAcquire(KEY)).toBeNull();
    lease.assertHeld();
    await lease.release();
    await until('no node keeps anything of it', isFree);
  });
});
