/**
 * `leasehold locks` against real servers, as a person runs it.
 */
import { execFile } from 'node:child_process';
import { cpSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Redis } from 'ioredis';
import { LeaseLostError, LockManager } from 'leasehold';
import { redis } from 'leasehold/redis';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { removeFolder, temporaryFolder, until } from '../servers/processes.ts';
import { RedisCluster, RedisServer } from '../servers/redis.ts';
import { lane, TOOLS } from '../servers/require.ts';

const ROOT = join(import.meta.dirname, '../..');
const MAIN = join(ROOT, 'dist/src/cli/main.js');

interface Outcome {
  readonly code: number;
  readonly out: string;
  readonly error: string;
}

/** What `--json` prints, of any command. */
interface Report {
  readonly name: string;
  readonly holders: readonly { readonly owner: string; since: string; until: string }[];
  readonly waiters: readonly { readonly owner: string }[];
  readonly epoch: string;
  readonly broken: readonly string[];
  readonly successor: string | null;
}

function namesOf(reports: readonly Report[]): string[] {
  return reports.map(({ name }) => name).toSorted();
}

function call(args: readonly string[], main: string = MAIN): Promise<Outcome> {
  return new Promise((resolve) => {
    execFile(process.execPath, [main, ...args], (failure, out, error) => {
      resolve({ code: failure === null ? 0 : Number(failure.code), out, error });
    });
  });
}

describe('the command line', () => {
  test.each([
    [[], 0, /locks list --redis URL/],
    [['--help'], 0, /locks break NAME/],
    [['locks', 'list', '--help'], 0, /who holds what/],
    [['locks'], 2, /no command 'locks'/],
    [['lock', 'list'], 2, /no command 'lock list'/],
    [['locks', 'list'], 2, /--redis redis:/],
    [['locks', 'list', '--colour'], 2, /Unknown option '--colour'/],
    [['locks', 'list', 'name', '--redis', 'redis://h'], 2, /locks show NAME/],
    [['locks', 'show', '--redis', 'redis://h'], 2, /give one name/],
    [['locks', 'break', 'a', 'b', '--redis', 'redis://h'], 2, /give one name/],
    [['locks', 'list', '--redis', 'http://h'], 2, /begins with redis:/],
    [['locks', 'list', '--redis', 'redis://h', '--prefix', 'leasehold:x'], 2, /is taken/],
    [['locks', 'list', '--redis', 'redis://127.0.0.1:1'], 1, /ECONNREFUSED.*check the URL/],
  ])('%j ends with %d', async (args, code, message) => {
    const outcome = await call(args);
    expect(outcome.code).toBe(code);
    expect(outcome.out + outcome.error).toMatch(message);
  });

  test('a client package that is missing is named, with the line that installs it', async () => {
    const folder = temporaryFolder();
    try {
      cpSync(join(ROOT, 'dist/src'), join(folder, 'src'), { recursive: true });
      writeFileSync(join(folder, 'package.json'), '{ "type": "module" }');
      // Nothing is in this one: Node.js must not find another in a folder above.
      mkdirSync(join(folder, 'node_modules/ioredis'), { recursive: true });
      const args = ['locks', 'list', '--redis', 'redis://127.0.0.1:1'];
      const outcome = await call(args, join(folder, 'src/cli/main.js'));
      expect(outcome).toMatchObject({ code: 1, out: '' });
      expect(outcome.error).toMatch(/npm i ioredis/);
    } finally {
      removeFolder(folder);
    }
  });
});

lane('locks on one Redis server', TOOLS.redis, () => {
  let server: RedisServer;
  let client: Redis;
  const closers: (() => Promise<void>)[] = [];
  beforeAll(async () => {
    server = await RedisServer.start();
    client = server.client();
  });
  afterAll(async () => {
    client?.disconnect();
    await server?.close();
  });
  beforeEach(() => client.flushall());
  afterEach(async () => {
    for (const close of closers.splice(0)) await close();
  });

  function manager(identity: string): LockManager {
    const locks = new LockManager({ store: redis(server.url), ttlMs: 60_000, identity });
    closers.push(() => locks.close());
    return locks;
  }

  const run = (...args: string[]) => call(['locks', ...args, '--redis', server.url]);

  async function json(...args: string[]): Promise<Report[]> {
    const { code, out, error } = await run(...args, '--json');
    expect(error).toBe('');
    expect(code).toBe(0);
    return out
      .trim()
      .split('\n')
      .filter((line) => line !== '')
      .map((line) => JSON.parse(line));
  }

  async function waiting(key: string, count: number): Promise<void> {
    await until('they wait', async () => {
      return (await client.zcount(`leasehold:o:lock:${key}`, '-inf', 1e10)) === count;
    });
  }

  test('list and show say who holds what, since when, until when, and who waits', async () => {
    const [one, two, three] = [manager('a:1:42'), manager('b:2:x'), manager('c:3:x')];
    await one.acquire('order:7');
    await one.acquire('report', { mode: 'shared' });
    await two.acquire('report', { mode: 'shared' });
    await two.acquire('api', { limit: 5 });
    await client.set('lock:theirs', 'some-client', 'PX', 60_000);
    await client.set('lock:data', 'a total');
    await client.hset('lock:hash', 'field', 'value');
    for (const locks of [two, three]) {
      locks.acquire('order:7').catch(() => {});
      await waiting('order:7', locks === two ? 1 : 2);
    }
    const reports = await json('list');
    expect(namesOf(reports)).toEqual(['api', 'order:7', 'report', 'theirs']);
    const byName = new Map(reports.map((report) => [report.name, report]));
    expect(byName.get('report')).toMatchObject({ mode: 'shared', waiting: 0 });
    expect(byName.get('report')?.holders).toHaveLength(2);
    expect(byName.get('api')).toMatchObject({ mode: 'permits', limit: 5 });
    expect(byName.get('theirs')).toMatchObject({ mode: 'foreign', holders: [{ since: null }] });

    const [shown] = (await json('show', 'order:7')) as [Report];
    for (const report of [shown, byName.get('order:7')]) {
      expect(report).toMatchObject({ mode: 'exclusive', limit: null, waiting: 2 });
    }
    expect(shown.holders[0]?.owner).toMatch(/^a:1:42:/);
    expect(shown.waiters.map(({ owner }) => owner.slice(0, 3))).toEqual(['b:2', 'c:3']);
    const { since = '', until: end = '' } = shown.holders[0] ?? {};
    const [seconds] = (await client.time()) as unknown as [string];
    const now = Number(seconds) * 1_000;
    expect(Date.parse(since)).toBeGreaterThan(now - 60_000);
    expect(Date.parse(since)).toBeLessThan(now + 1_000);
    // The lease was given 60 s, and renewals only ever lengthen it.
    expect(Date.parse(end) - Date.parse(since)).toBeGreaterThanOrEqual(59_000);

    const table = (await run('list')).out;
    expect(table).toMatch(/^SINCE +UNTIL +WAITING +HOLDER +NAME\n/);
    expect(table).toMatch(/Z +\S+Z +2 {2}a:1 +order:7\n/);
    expect(table).toMatch(/ and 1 more +report\n/);
    const page = (await run('show', 'order:7')).out;
    expect(page).toMatch(
      /held by a:1:42:1[\s\S]*since \S+Z, until \S+Z[\s\S]*1\. b:2[\s\S]*2\. c:3/,
    );
  });

  test('break frees the key for the next waiter, and its holder learns that it is lost', async () => {
    const [one, other] = [manager('a:1:x'), manager('b:2:x')];
    const lease = await one.acquire('order:7');
    const next = other.acquire('order:7');
    await waiting('order:7', 1);
    const [report] = (await json('break', 'order:7')) as [Report];
    expect(report.broken).toEqual([expect.stringMatching(/^a:1:x/)]);
    expect(report.successor).toMatch(/^b:2:x/);
    const successor = await next;
    // By a message, long before the next renewal.
    await until('it is lost', () => lease.state === 'lost');
    expect(lease.signal.reason).toBeInstanceOf(LeaseLostError);
    expect(successor.token / 4096n).toBeGreaterThan(BigInt(report.epoch));
    expect(BigInt(report.epoch)).toBeGreaterThan(lease.token / 4096n);
    await successor.release();
    expect(await client.keys('*')).toEqual(['leasehold:epoch']);
  });

  test('break takes shared leases, permits and locks of other clients, and leaves data alone', async () => {
    const [one, two, three] = [manager('a:1:x'), manager('b:2:x'), manager('c:3:x')];
    const readers = [
      await one.acquire('report', { mode: 'shared' }),
      await two.acquire('report', { mode: 'shared' }),
    ];
    const writer = three.acquire('report');
    await waiting('report', 1);
    const [report] = (await json('break', 'report')) as [Report];
    expect(report.broken).toHaveLength(2);
    await until('both are lost', () => readers.every(({ state }) => state === 'lost'));
    await (await writer).release();

    await client.set('lock:theirs', 'some-client', 'PX', 60_000);
    expect((await run('break', 'theirs')).out).toMatch(/theirs was taken from some-client/);
    expect(await client.exists('lock:theirs')).toBe(0);
    expect((await run('break', 'theirs')).out).toMatch(/nobody held theirs/);

    await client.set('lock:data', 'a total');
    await client.hset('lock:hash', 'field', 'value');
    for (const args of [
      ['break', 'data'],
      ['show', 'data'],
      ['break', 'hash'],
      ['show', 'hash'],
    ]) {
      const outcome = await run(...args);
      expect(outcome).toMatchObject({ code: 1, out: '' });
      expect(outcome.error).toMatch(/data and not a lock.*prefix that its application uses/);
    }
    expect(await client.get('lock:data')).toBe('a total');
  });

  test('a long list comes in pages, whole, and nothing steers the terminal', async () => {
    const pipeline = client.pipeline();
    for (let index = 0; index < 3_000; index += 1) {
      pipeline.set(`lock:${index}`, 'x', 'PX', 600_000);
      pipeline.set(`data:${index}`, 'x');
    }
    pipeline.set('lock:\u001b[2J', 'x', 'PX', 600_000);
    await pipeline.exec();
    await client.config('RESETSTAT');
    const { out } = await run('list');
    expect(out).toContain('"\\u{1b}[2J"');
    expect(out.trim().split('\n')).toHaveLength(3_002);
    const scans = /cmdstat_scan:calls=(\d+)/.exec(await client.info('commandstats'))?.[1];
    expect(Number(scans)).toBeGreaterThanOrEqual(6_001 / 1_000);
    expect(await client.info('commandstats')).not.toMatch(/cmdstat_keys/);
  });
});

lane('locks on a Redis cluster', TOOLS.redis, () => {
  let servers: RedisCluster;
  beforeAll(async () => {
    servers = await RedisCluster.start(3, 0);
  });
  afterAll(() => servers?.close());

  test('every node is asked with --cluster; without it, that is the advice', async () => {
    const url = (servers.masters[0] as RedisServer).url;
    for (const args of [['list'], ['show', 'a'], ['break', 'a']]) {
      const outcome = await call(['locks', ...args, '--redis', url]);
      expect(outcome).toMatchObject({ code: 2, out: '' });
      expect(outcome.error).toMatch(/spread over slots and nodes: add --cluster/);
    }
    const names = ['a', 'b', 'c', 'd{tag}'];
    const { Cluster } = await import('ioredis');
    const client = new Cluster([...servers.nodes]);
    const locks = new LockManager({ store: redis(client), ttlMs: 60_000 });
    try {
      for (const name of names) await locks.acquire(name);
      const list = await call(['locks', 'list', '--redis', url, '--cluster', '--json']);
      expect(list.error).toBe('');
      const listed = list.out.trim().split('\n');
      expect(namesOf(listed.map((line) => JSON.parse(line)))).toEqual(names);
      // A node that answers late is waited for, as one server is.
      const [first] = servers.masters as [RedisServer];
      first.pause();
      const late = call(['locks', 'list', '--redis', url, '--cluster']);
      await new Promise((resolve) => setTimeout(resolve, 1_500));
      first.resume();
      expect(await late).toMatchObject({ code: 0, error: '' });
      for (const name of names) {
        const broken = await call(['locks', 'break', name, '--redis', url, '--cluster']);
        expect(broken.out).toMatch(/was taken from/);
      }
    } finally {
      await locks.close();
      client.disconnect();
    }
  });
});
