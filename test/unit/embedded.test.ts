import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  realpathSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { createConnection } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { InvalidArgumentError, LockManager } from 'leasehold';
import { type EmbeddedStore, embedded } from 'leasehold/embedded';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import type { Claim, StoreEvent } from '../../dist/src/core/store.js';
import { networkFileSystem } from '../../dist/src/embedded/folder.js';
import { decodeEvent, encodeEvent, LineReader } from '../../dist/src/embedded/wire.js';

const run = promisify(execFile);

/** As long as it takes, however busy the machine is. */
const WAIT = { timeout: 60_000, interval: 5 };
/** Long enough for an engine that has to wait for a processor. */
const STALL_MS = 2_000;

let base: string;
let path: string;
const stores: EmbeddedStore[] = [];

beforeEach(() => {
  base = realpathSync(mkdtempSync(join(tmpdir(), 'leasehold-test-')));
  path = join(base, 'locks');
});

afterEach(async () => {
  await Promise.all(stores.splice(0).map((store) => store.close()));
  rmSync(base, { recursive: true, force: true });
});

function claimOf(key: string, owner: string, more: Partial<Claim> = {}): Claim {
  return { key, owner, units: 10, capacity: 10, ttlMs: 60_000, wait: true, ...more };
}

async function open(
  folder: string = path,
): Promise<{ store: EmbeddedStore; events: StoreEvent[] }> {
  const store = embedded({ path: folder });
  stores.push(store);
  const events: StoreEvent[] = [];
  await store.open((event) => events.push(event));
  return { store, events };
}

function leasesFolder(): string {
  const name = readdirSync(path).find((one) => one.startsWith('leases-'));
  return join(path, name as string);
}

function sockets(): string[] {
  return readdirSync(join(path, 'sockets'));
}

describe('as an engine', () => {
  test('two stores of one process exclude each other, and a drop hands the key over', async () => {
    const a = await open();
    const b = await open();
    expect(await a.store.claim(claimOf('k', 'a1'))).toMatchObject({ is: 'granted', wanted: false });
    expect(await b.store.claim(claimOf('k', 'b1'))).toMatchObject({ is: 'waiting', holder: 'a1' });
    await vi.waitFor(() => expect(a.events).toEqual([{ is: 'wanted', key: 'k' }]), WAIT);
    const dropped = await a.store.drop({ key: 'k', owner: 'a1' }, claimOf('k', 'a2'));
    expect(dropped).toMatchObject({ held: true, next: { is: 'waiting', holder: 'b1' } });
    await vi.waitFor(() => expect(b.events).toMatchObject([{ is: 'granted', owner: 'b1' }]), WAIT);
    expect(await b.store.renew([claimOf('k', 'b1'), claimOf('k', 'b9')])).toEqual([
      { is: 'held', wanted: true },
      { is: 'lost' },
    ]);
    expect(await b.store.inspect()).toEqual([
      { key: 'k', capacity: 10, holders: ['b1'], waiters: ['a2'] },
    ]);
  });

  test('a grant to a waiter of the same store comes after the answer that it waits', async () => {
    const { store, events } = await open();
    await store.claim(claimOf('k', 'a1'));
    let eventsWhenAnswered = -1;
    // One turn, one transaction: the drop grants what the claim has queued.
    const waiting = store.claim(claimOf('k', 'a2')).then((outcome) => {
      eventsWhenAnswered = events.length;
      return outcome;
    });
    await store.drop({ key: 'k', owner: 'a1' });
    expect(await waiting).toMatchObject({ is: 'waiting' });
    expect(eventsWhenAnswered).toBe(0);
    await vi.waitFor(() => expect(events).toMatchObject([{ is: 'granted', owner: 'a2' }]), WAIT);
  });

  test('leases outlast the store that made them, and end by their ttl', async () => {
    const a = await open();
    await a.store.claim(claimOf('long', 'a1'));
    await a.store.claim(claimOf('short', 'a2', { ttlMs: 30 }));
    await a.store.close();
    const b = await open();
    expect(await b.store.claim(claimOf('long', 'b1', { wait: false }))).toMatchObject({
      is: 'taken',
      holder: 'a1',
    });
    await vi.waitFor(async () => {
      const outcome = await b.store.claim(claimOf('short', 'b2', { wait: false }));
      expect(outcome.is).toBe('granted');
    }, WAIT);
  });

  test('every kind of key is a key of its own', async () => {
    const { store } = await open();
    const keys = ['k', 'K', ' k', 'k ', 'e', 'é', 'e\u0301', '\n', '\u0000', '\u0001', '{}', '🔒'];
    keys.push('x'.repeat(512), '€'.repeat(512), '\u0000'.repeat(512), '🔒'.repeat(256));
    for (const key of keys) {
      expect(await store.claim(claimOf(key, 'a', { wait: false }))).toMatchObject({
        is: 'granted',
      });
    }
    const found = (await store.inspect()).map((report) => report.key);
    expect(found.sort()).toEqual([...keys].sort());
  });

  test('a call that cannot be sent is rejected, and the next one is made', async () => {
    const { store } = await open();
    const broken = store.claim({ ...claimOf('k', 'a'), ttlMs: (() => 1) as unknown as number });
    await expect(broken).rejects.toThrow('could not be cloned');
    expect(await store.claim(claimOf('k', 'a'))).toMatchObject({ is: 'granted' });
  });

  test('an answer that lies there already counts, however long this event loop was stalled', async () => {
    const store = embedded({ path, requestTimeoutMs: STALL_MS / 2 });
    stores.push(store);
    await store.open(() => undefined);
    await store.claim(claimOf('warm', 'a'));
    const answer = store.claim(claimOf('k', 'a'));
    // The call is sent at the end of this turn; the stall is in the next one.
    await new Promise((resolve) => setImmediate(resolve));
    const stall = new Int32Array(new SharedArrayBuffer(4));
    Atomics.wait(stall, 0, 0, STALL_MS);
    expect(await answer).toMatchObject({ is: 'granted' });
  });
});

describe('keys', () => {
  test('a hundred thousand, once each, leave nothing behind', async () => {
    const { store } = await open();
    const names = Array.from({ length: 100_000 }, (_, n) => `account:${n}`);
    const outcomes = await Promise.all(names.map((key) => store.claim(claimOf(key, 'a'))));
    expect(outcomes.every((outcome) => outcome.is === 'granted')).toBe(true);
    expect(await store.inspect()).toHaveLength(names.length);
    const renewed = await store.renew(names.map((key) => claimOf(key, 'a')));
    expect(renewed.every((outcome) => outcome.is === 'held')).toBe(true);
    await Promise.all(names.map((key) => store.drop({ key, owner: 'a' })));
    expect(await store.inspect()).toEqual([]);
  });

  test('that nobody drops are swept by later claims of other keys', async () => {
    const { store } = await open();
    const left = Array.from({ length: 500 }, (_, n) => claimOf(`left:${n}`, 'a', { ttlMs: 1 }));
    await Promise.all(left.map((claim) => store.claim(claim)));
    let used = 0;
    await vi.waitFor(async () => {
      for (let n = 0; n < 100; n += 1) {
        used += 1;
        await store.claim(claimOf(`used:${used}`, 'a'));
        await store.drop({ key: `used:${used}`, owner: 'a' });
      }
      expect(await store.inspect()).toEqual([]);
    }, WAIT);
  });
});

describe('epochs', () => {
  async function epochOf(store: EmbeddedStore, owner: string): Promise<bigint> {
    const outcome = await store.claim(claimOf('k', owner));
    if (outcome.is !== 'granted') throw new Error(`not granted but ${outcome.is}`);
    await store.drop({ key: 'k', owner });
    return outcome.epoch;
  }

  test('increase when a key was gone, the folder was closed, or the machine was started anew', async () => {
    const first = await open();
    const one = await epochOf(first.store, 'a1');
    const two = await epochOf(first.store, 'a2');
    expect(two).toBeGreaterThan(one);
    await first.store.close();
    const second = await open();
    const three = await epochOf(second.store, 'a3');
    expect(three).toBeGreaterThan(two);
    await second.store.claim(claimOf('held', 'a4'));
    await second.store.close();

    // What an earlier boot left: its leases are gone, its files too.
    const other = join(path, 'leases-00000000-0000-4000-8000-000000000000');
    renameSync(leasesFolder(), other);
    const third = await open();
    expect(existsSync(other)).toBe(false);
    expect(await third.store.inspect()).toEqual([]);
    expect(await epochOf(third.store, 'a5')).toBeGreaterThan(three);
  });

  test('a torn environment of an earlier boot is never read', async () => {
    mkdirSync(join(path, 'leases-deadbeef'), { recursive: true });
    writeFileSync(join(path, 'leases-deadbeef', 'data.mdb'), 'torn');
    const { store } = await open();
    expect(await store.claim(claimOf('k', 'a'))).toMatchObject({ is: 'granted' });
  });
});

describe('the folder', () => {
  test('is for its user alone', async () => {
    const { store } = await open();
    await store.claim(claimOf('k', 'a'));
    for (const folder of [path, leasesFolder(), join(path, 'sockets')]) {
      expect(statSync(folder).mode & 0o777).toBe(0o700);
    }
    for (const file of readdirSync(leasesFolder())) {
      expect(statSync(join(leasesFolder(), file)).mode & 0o077).toBe(0);
    }
  });

  test.each([
    ['nothing', {}],
    ['an empty path', { path: '' }],
    ['a zero byte', { path: 'a\0b' }],
    ['another type', { path: 7 }],
    ['a time that is none', { path: 'x', requestTimeoutMs: 0 }],
  ])('%s is refused at once', (_, options) => {
    expect(() => embedded(options as { path: string })).toThrow(InvalidArgumentError);
  });

  test('that is a file is a clear error, and the store can be opened later', async () => {
    writeFileSync(path, '');
    const store = embedded({ path });
    stores.push(store);
    await expect(store.open(() => undefined)).rejects.toThrow(
      `the embedded store cannot use the folder '${path}'`,
    );
    rmSync(path);
    await store.open(() => undefined);
    expect(await store.claim(claimOf('k', 'a'))).toMatchObject({ is: 'granted' });
  });

  test('with a path too long for a socket has its sockets elsewhere', async () => {
    const long = join(base, 'x'.repeat(120));
    const a = await open(long);
    const b = await open(long);
    expect(readdirSync(long)).not.toContain('sockets');
    await a.store.claim(claimOf('k', 'a1'));
    await b.store.claim(claimOf('k', 'b1'));
    await vi.waitFor(() => expect(a.events).toEqual([{ is: 'wanted', key: 'k' }]), WAIT);
    const { dev, ino } = statSync(long);
    const id = createHash('sha256').update(`${dev}:${ino}`).digest('hex').slice(0, 16);
    const elsewhere = join(tmpdir(), `leasehold-${id}`);
    expect(readdirSync(elsewhere)).toHaveLength(2);
    expect(statSync(elsewhere).mode & 0o777).toBe(0o700);
    await Promise.all([a.store.close(), b.store.close()]);
    expect(existsSync(elsewhere)).toBe(false);
  });

  test('on a network file system is refused by its type', () => {
    expect(networkFileSystem(0x6969)).toBe('NFS');
    // As a 32-bit number with its sign.
    expect(networkFileSystem(0xff534d42 | 0)).toBe('CIFS');
    for (const local of [0xef53, 0x01021994, 0x58465342, 0x9123683e, 0x794c7630]) {
      expect(networkFileSystem(local)).toBeNull();
    }
  });
});

describe('opening and closing', () => {
  test('closing leaves no socket, and nothing that holds the process open', async () => {
    const a = await open();
    const b = await open();
    await a.store.claim(claimOf('k', 'a1'));
    await b.store.claim(claimOf('k', 'b1'));
    expect(sockets()).toHaveLength(2);
    await Promise.all([a.store.close(), b.store.close()]);
    expect(sockets()).toEqual([]);
    await expect(a.store.claim(claimOf('k', 'a2'))).rejects.toThrow('not open');
    expect(process.listeners('exit').filter((one) => one.name === 'waitForAll')).toEqual([]);
  });

  test('a store is opened once at a time, closed as often as one likes, and opened again', async () => {
    const { store } = await open();
    await expect(store.open(() => undefined)).rejects.toThrow('open already');
    await store.close();
    await store.close();
    await store.open(() => undefined);
    expect(await store.claim(claimOf('k', 'a'))).toMatchObject({ is: 'granted' });
  });

  test('calls that were made before the close are answered', async () => {
    const { store } = await open();
    const claim = store.claim(claimOf('k', 'a'));
    const closed = store.close();
    expect(await claim).toMatchObject({ is: 'granted' });
    await closed;
  });

  test('a process with an idle store ends by itself', async () => {
    const program = `
      import { embedded } from 'leasehold/embedded';
      const store = embedded({ path: process.argv[1] });
      await store.open(() => undefined);
      await store.claim({ key: 'k', owner: 'o', units: 1, capacity: 1, ttlMs: 1000, wait: true });
      console.log('idle');
    `;
    const args = ['--input-type=module', '-e', program, path];
    const { stdout } = await run(process.execPath, args);
    expect(stdout).toBe('idle\n');
  });

  test('without lmdb the error says what to install', async () => {
    const copy = join(base, 'copy');
    cpSync(join(import.meta.dirname, '../../dist/src'), copy, { recursive: true });
    writeFileSync(join(copy, 'package.json'), '{ "type": "module" }');
    const program = `
      const { embedded } = await import(process.argv[1]);
      const opening = embedded({ path: process.argv[2] }).open(() => undefined);
      await opening.catch((error) => console.log(error.message));
    `;
    const args = ['--input-type=module', '-e', program, join(copy, 'embedded/index.js'), path];
    const { stdout } = await run(process.execPath, args);
    expect(stdout).toBe('leasehold/embedded needs LMDB: npm i lmdb\n');
  });
});

describe('sockets', () => {
  const granted: StoreEvent = {
    is: 'granted',
    key: 'k\n',
    owner: 'o',
    epoch: 2n ** 60n,
    wanted: true,
  };

  test('events survive the wire', () => {
    for (const event of [granted, { is: 'wanted', key: '🔒' } as const]) {
      const line = encodeEvent(event);
      expect(new LineReader().read(line)).toEqual([line.slice(0, -1)]);
      expect(decodeEvent(line)).toEqual(event);
    }
  });

  test('lines are put together from any pieces, and bounded', () => {
    const reader = new LineReader();
    expect(reader.read('{"a"')).toEqual([]);
    expect(reader.read(':1}\n{"b"')).toEqual(['{"a":1}']);
    expect(reader.read('x'.repeat(20_000))).toBeNull();
  });

  test.each([
    '',
    'null',
    '[]',
    '{',
    '{"is":"reset"}',
    '{"is":"wanted"}',
    '{"is":"wanted","key":""}',
    '{"is":"wanted","key":7}',
    `{"is":"wanted","key":"${'x'.repeat(513)}"}`,
    '{"is":"granted","key":"k","owner":"o","epoch":7,"wanted":true}',
    '{"is":"granted","key":"k","owner":"o","epoch":"-7","wanted":true}',
    '{"is":"granted","key":"k","owner":"o","epoch":"7","wanted":"no"}',
    '{"is":"granted","key":"k","epoch":"7","wanted":true}',
    '{"is":"lost","key":"k","owner":"o"}',
  ])('%s is not an event', (line) => {
    expect(decodeEvent(line)).toBeNull();
  });

  test('garbage ends its connection and harms nothing', async () => {
    const a = await open();
    const b = await open();
    await a.store.claim(claimOf('k', 'a1'));
    for (const garbage of ['\n', 'hello\n', `${'x'.repeat(100_000)}`, '\u0000\u00ff\n', '{}\n']) {
      for (const name of sockets()) {
        const socket = createConnection(join(path, 'sockets', name));
        const closed = new Promise((resolve) => socket.on('close', resolve));
        socket.on('error', () => undefined);
        socket.write(garbage);
        await closed;
      }
    }
    expect([...a.events, ...b.events]).toEqual([]);
    await b.store.claim(claimOf('k', 'b1'));
    await a.store.drop({ key: 'k', owner: 'a1' });
    await vi.waitFor(() => expect(b.events).toMatchObject([{ is: 'granted', owner: 'b1' }]), WAIT);
  });

  test('that were removed are made anew, and meanwhile waiters look for themselves', async () => {
    const a = new LockManager({ store: embedded({ path }), ttlMs: 600 });
    const b = new LockManager({ store: embedded({ path }), ttlMs: 600 });
    try {
      const held = await a.acquire('k');
      const waiting = b.acquire('k');
      await vi.waitFor(() => expect(sockets()).toHaveLength(2), WAIT);
      rmSync(join(path, 'sockets'), { recursive: true });
      await held.release();
      await (await waiting).release();
      await vi.waitFor(async () => {
        await (await a.acquire('x')).release();
        await (await b.acquire('x')).release();
        expect(sockets()).toHaveLength(2);
      }, WAIT);
    } finally {
      await Promise.all([a.close(), b.close()]);
    }
  });
});
