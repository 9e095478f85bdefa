/**
 * What a real Redis server does to commits: it loses a reply, forgets scripts, runs out of memory, fails over.
 */
import { setTimeout } from 'node:timers/promises';
import type { Redis } from 'ioredis';
import { redisState } from 'leasehold/redis';
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest';
import type { Commit, CommitMessage, StateStore } from '../../dist/src/consumer/contracts.js';
import { until } from '../servers/processes.ts';
import { TcpProxy } from '../servers/proxy.ts';
import { RedisServer, SentinelGroup } from '../servers/redis.ts';
import { lane, TOOLS } from '../servers/require.ts';

const KEY = 'contribution:42';
const lease = { tokenText: '9'.padStart(20, '0') };
let commits = 0;

function message(id: string): CommitMessage {
  return { id, publishedAtMs: Date.now(), isReplay: false };
}

function commitOf(parts: Partial<Commit>): Commit {
  commits += 1;
  const id = `commit:${commits}`;
  return { key: KEY, lease, id, expectedVersion: 0, value: '1', messages: [], ...parts };
}

/** Makes the commit again until its outcome is known. */
async function settle(state: StateStore, commit: Commit) {
  for (;;) {
    try {
      return await state.commit(commit);
    } catch {
      // Done or not done; without a connection it fails at once.
      await setTimeout(5);
    }
  }
}

lane('commits on one Redis server', TOOLS.redis, () => {
  let server: RedisServer;
  let client: Redis;
  beforeAll(async () => {
    server = await RedisServer.start();
    client = server.client();
  });
  afterAll(async () => {
    client?.disconnect();
    await server?.close();
  });
  beforeEach(() => client.flushall());

  test('a commit whose reply was lost is not made twice', async () => {
    const proxy = await TcpProxy.start(server.port);
    const state = redisState(`redis://127.0.0.1:${proxy.port}`);
    await state.open();
    const commit = commitOf({ value: '5', messages: [message('a')] });
    const lost = proxy.loseReply((bytes) => bytes.includes(commit.id));
    await expect(state.commit(commit)).rejects.toThrow();
    await lost;
    expect(await settle(state, commit)).toEqual({ is: 'committed', version: 1 });
    expect(await client.hget(`state:${KEY}`, 'n')).toBe('1');
    await state.close();
    await proxy.close();
  });

  test('a flushed script cache is no error', async () => {
    const state = redisState(client);
    await state.open();
    await client.script('FLUSH');
    expect(await state.commit(commitOf({}))).toEqual({ is: 'committed', version: 1 });
    await state.close();
  });

  test('a server out of memory does all of a commit or nothing', async () => {
    const state = redisState(client);
    await state.open();
    await state.commit(commitOf({ value: '1', messages: [message('a')] }));
    const before = await client.hgetall(`state:${KEY}`);
    const used = /used_memory:(\d+)/.exec(await client.info('memory'))?.[1] ?? '0';
    await client.set('ballast', 'x'.repeat(1_000_000));
    await client.config('SET', 'maxmemory', used);
    const commit = commitOf({ expectedVersion: 1, value: '2', messages: [message('b')] });
    await expect(state.commit(commit)).rejects.toThrow(/OOM/);
    await expect(state.markDead(KEY, [message('c')])).rejects.toThrow(/OOM/);
    expect(await client.hgetall(`state:${KEY}`)).toEqual(before);
    await client.config('SET', 'maxmemory', '0');
    const { marks } = (await state.load(KEY, lease, ['a', 'b', 'c'].map(message))) as {
      marks: ReadonlyMap<string, unknown>;
    };
    expect([...marks.keys()]).toEqual(['a']);
    expect(await state.commit(commit)).toEqual({ is: 'committed', version: 2 });
    await state.close();
  });

  test('commits go on while connections are cut again and again, each exactly once', async () => {
    const proxy = await TcpProxy.start(server.port);
    const state = redisState(`redis://127.0.0.1:${proxy.port}`, { requestTimeoutMs: 500 });
    await state.open();
    const progress = { done: 0 };
    const COUNT = 150;
    const work = (async () => {
      for (let index = 0; index < COUNT; index += 1) {
        const value = String(index + 1);
        const messages = [message(`m:${index}`)];
        const outcome = await settle(state, commitOf({ expectedVersion: index, value, messages }));
        expect(outcome).toEqual({ is: 'committed', version: index + 1 });
        progress.done += 1;
      }
    })();
    for (let at = 5; at < COUNT; at += 15) {
      await until('it went on', () => progress.done >= at);
      proxy.cut();
    }
    await work;
    expect(await client.hmget(`state:${KEY}`, 'n', 'v')).toEqual([String(COUNT), String(COUNT)]);
    await state.close();
    await proxy.close();
  });
});

lane('commits on a master with replicas', TOOLS.redis, () => {
  let group: SentinelGroup;
  const open: StateStore[] = [];
  beforeEach(async () => {
    // No failover but those that a test wants.
    group = await SentinelGroup.start({ downAfterMs: 60_000 });
  });
  afterEach(async () => {
    for (const state of open.splice(0)) await state.close();
    await group.close();
  });

  async function openState(minReplicas: number): Promise<StateStore> {
    const options = { minReplicas, replicaTimeoutMs: 200, requestTimeoutMs: 10_000 };
    const state = redisState(group.url, options);
    await state.open();
    open.push(state);
    return state;
  }

  async function replicas(): Promise<RedisServer[]> {
    const master = await group.master();
    return group.servers.filter((server) => server !== master);
  }

  /** The master dies with what no replica has, and another one is promoted. */
  async function failOverWithout(unreplicated: () => Promise<void>): Promise<void> {
    const master = await group.master();
    const others = await replicas();
    for (const replica of others) replica.pause();
    // What is on its way would still be read when they go on.
    await master.command('CLIENT', 'KILL', 'TYPE', 'replica');
    await unreplicated();
    await group.setDownAfter(500);
    await master.kill();
    for (const replica of others) replica.resume();
    await until('a replica is the master', async () => (await group.master()) !== master);
  }

  test('a commit that no replica has is not acknowledged, and made again it is done once', async () => {
    const state = await openState(1);
    const first = commitOf({ value: '1', messages: [message('a')] });
    expect(await state.commit(first)).toMatchObject({ is: 'committed' });
    const commit = commitOf({ expectedVersion: 1, value: '2', messages: [message('b')] });
    await failOverWithout(async () => {
      await expect(state.commit(commit)).rejects.toThrow(/replicas/);
      // Neither is anything that rests on it: its messages would be acknowledged, and then lost.
      await expect(state.commit(commit)).rejects.toThrow(/replicas/);
      await expect(state.load(KEY, lease, commit.messages)).rejects.toThrow(/replicas/);
      await expect(state.markDead(KEY, commit.messages)).rejects.toThrow(/replicas/);
      const again = commitOf({ expectedVersion: 2, messages: commit.messages });
      await expect(state.commit(again)).rejects.toThrow(/replicas/);
      // What nobody acknowledges anything for need not last.
      expect(await state.load(KEY, lease, [])).toMatchObject({ value: '2' });
    });
    expect(await settle(state, commit)).toEqual({ is: 'committed', version: 2 });
    expect(await state.peek(KEY)).toBe('2');
  });

  test('nor is what rests on it, over a connection that has written nothing', async () => {
    const state = await openState(1);
    expect(await state.commit(commitOf({}))).toMatchObject({ is: 'committed' });
    const messages = [message('a')];
    const commit = commitOf({ expectedVersion: 1, value: '2', messages });
    const answers = [
      (other: StateStore) => other.commit(commit),
      (other: StateStore) => other.load(KEY, lease, messages),
      (other: StateStore) => other.markDead(KEY, messages),
      (other: StateStore) => other.commit(commitOf({ expectedVersion: 2, messages })),
    ];
    const others = await Promise.all(answers.map(() => openState(1)));
    const behind = await replicas();
    for (const replica of behind) replica.pause();
    await expect(state.commit(commit)).rejects.toThrow(/replicas/);
    for (const [at, answer] of answers.entries()) {
      await expect(answer(others[at] as StateStore), `${at}`).rejects.toThrow(/replicas/);
    }
    for (const replica of behind) replica.resume();
    expect(await settle(state, commit)).toEqual({ is: 'committed', version: 2 });
  });

  test('without minReplicas a failover loses commits that were acknowledged', async () => {
    const state = await openState(0);
    const commit = commitOf({ value: '1', messages: [message('a')] });
    await failOverWithout(async () => {
      expect(await state.commit(commit)).toMatchObject({ is: 'committed' });
    });
    await until('the new master answers', async () => (await state.peek(KEY)) === null);
  });

  test('a failover in mid-commit loses no commit that was acknowledged, and makes none twice', async () => {
    const state = await openState(1);
    const progress = { done: 0, isOver: false };
    const work = (async () => {
      while (!progress.isOver) {
        const index = progress.done;
        const value = String(index + 1);
        const messages = [message(`m:${index}`)];
        const outcome = await settle(state, commitOf({ expectedVersion: index, value, messages }));
        expect(outcome).toEqual({ is: 'committed', version: index + 1 });
        progress.done += 1;
      }
    })();
    await until('it commits', () => progress.done > 20);
    const master = await group.master();
    await group.setDownAfter(500);
    await master.kill();
    await until('a replica is the master', async () => (await group.master()) !== master);
    const at = progress.done;
    await until('it commits again', () => progress.done > at + 20);
    progress.isOver = true;
    await work;
    expect(await state.peek(KEY)).toBe(String(progress.done));
  });
});
