/**
 * Wall clocks that are wrong, or are set while a lease is held. The embedded store judges expiry by the clock that
 * all processes of a machine share and nobody can set.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { lane, TOOLS } from '../servers/require.ts';

const PROGRAM = join(import.meta.dirname, 'wall-clock-program.mjs');
const HOUR_S = 3_600;
/** Of the leases in the program. */
const TTL_MS = 5_000;

let folder: string;
const started: ChildProcess[] = [];

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'leasehold-clock-'));
});

afterEach(async () => {
  for (const child of started.splice(0)) {
    if (child.exitCode === null && child.signalCode === null) {
      child.kill('SIGKILL');
      await once(child, 'exit');
    }
  }
  await rm(folder, { recursive: true, force: true });
});

lane('the embedded store under wrong wall clocks', TOOLS.faketime, (library) => {
  test('clocks two hours apart change neither exclusion nor the order of tokens', async () => {
    const early = await start(library, 'early', -HOUR_S);
    const late = await start(library, 'late', HOUR_S);
    expect(await late.call('acquire')).toBeTruthy();
    expect(await early.call('try')).toBeNull();
    await late.call('release');

    let last = '';
    for (const one of [late, early, late, early]) {
      const token = String(await one.call('acquire'));
      expect(token > last, `${token} after ${last}`).toBe(true);
      last = token;
      await one.call('release');
    }
    await Promise.all([early.close(), late.close()]);
  });

  test('a clock that is set back ends no lease, and lets none outlive its holder', async () => {
    const holder = await start(library, 'holder', 0);
    const other = await start(library, 'other', 0);
    await holder.call('acquire');
    await holder.setClock(-HOUR_S);
    // Longer than its ttl: only renewals keep it, and they go on.
    const endMs = performance.now() + TTL_MS * 1.2;
    while (performance.now() < endMs) {
      expect(await other.call('try')).toBeNull();
      expect(await holder.call('state')).not.toBe('lost');
    }
    holder.kill();
    // Free once the ttl is over, though by the wall clock it lasts for an hour yet.
    expect(await other.call('acquire')).toBeTruthy();
    await other.close();
  });

  test('a clock that is set forward ends the lease early, and nobody is let in beside it', async () => {
    const holder = await start(library, 'holder', 0);
    const other = await start(library, 'other', 0);
    await holder.call('acquire');
    await holder.setClock(HOUR_S);
    await holder.event('aborted');
    expect(await holder.call('state')).toBe('lost');
    expect(await other.call('acquire')).toBeTruthy();
    await Promise.all([holder.close(), other.close()]);
  });
});

interface Program {
  call(name: string): Promise<unknown>;
  /** Resolves once the program has reported this. */
  event(name: string): Promise<void>;
  /** Sets its wall clock, relative to the right time. */
  setClock(offsetSeconds: number): Promise<void>;
  kill(): void;
  close(): Promise<void>;
}

async function start(library: string, name: string, offsetSeconds: number): Promise<Program> {
  const clockFile = join(folder, `${name}.clock`);
  const setClock = async (seconds: number): Promise<void> => {
    // It is read all the time, and must never be seen half written.
    await writeFile(`${clockFile}.new`, `${seconds < 0 ? '' : '+'}${seconds}s\n`);
    await rename(`${clockFile}.new`, clockFile);
  };
  await setClock(offsetSeconds);
  const child = fork(PROGRAM, {
    env: {
      ...process.env,
      LD_PRELOAD: library,
      FAKETIME_TIMESTAMP_FILE: clockFile,
      FAKETIME_NO_CACHE: '1',
      FAKETIME_DONT_FAKE_MONOTONIC: '1',
    },
  });
  started.push(child);
  const events = new Set<string>();
  child.on('message', (message: { event?: string }) => {
    if (message.event !== undefined) events.add(message.event);
  });
  const gone = once(child, 'exit').then(() => {
    throw new Error(`the process '${name}' has ended`);
  });
  gone.catch(() => {});
  const call = (request: object): Promise<unknown> => {
    const answer = nextResult(child);
    child.send(request);
    return Promise.race([answer, gone]);
  };
  const wallMs = await call({ call: 'open', path: join(folder, 'locks') });
  // Otherwise the tests below would pass under the right time, too.
  expect(Math.abs(Number(wallMs) - Date.now() - offsetSeconds * 1_000)).toBeLessThan(60_000);
  return {
    call: (what) => call({ call: what }),
    setClock,
    async event(what) {
      while (!events.has(what)) await Promise.race([once(child, 'message'), gone]);
    },
    kill: () => child.kill('SIGKILL'),
    async close() {
      const exit = once(child, 'exit');
      await call({ call: 'close' });
      await exit;
    },
  };
}

async function nextResult(child: ChildProcess): Promise<unknown> {
  for (;;) {
    const [message] = (await once(child, 'message')) as [{ result?: unknown }];
    if ('result' in message) return message.result;
  }
}
