/**
 * Checks the model of the hand-over in every reachable state: as it is built, and with each of its rules broken.
 */
import { execFile } from 'node:child_process';
import { join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { removeFolder, temporaryFolder } from '../servers/processes.ts';
import { lane, TOOLS } from '../servers/require.ts';

const MODEL = resolve(import.meta.dirname, '../../models/handover.pml');
const run = promisify(execFile);
const CHECK_TIMEOUT_MS = 120_000;
const TIMEOUT_MS = 2 * CHECK_TIMEOUT_MS;

lane('the model of the hand-over', TOOLS.spin, (spin) => {
  let folder: string;
  beforeAll(() => {
    folder = temporaryFolder();
  });
  afterAll(() => removeFolder(folder));

  /** What the checker says of the model with these settings. */
  async function check(...settings: readonly string[]): Promise<string> {
    const defines = settings.map((setting) => `-D${setting}`);
    await run(spin, ['-a', ...defines, MODEL], { cwd: folder });
    // To compile it better takes longer than that saves: most runs end within a second.
    await run('gcc', ['-O1', '-DSAFETY', '-DHC4', '-DNOREDUCE', '-w', '-o', 'pan', 'pan.c'], {
      cwd: folder,
    });
    const { stdout } = await run(join(folder, 'pan'), ['-m200000', '-w22'], {
      cwd: folder,
      timeout: CHECK_TIMEOUT_MS,
      killSignal: 'SIGKILL',
    });
    expect(stdout).not.toMatch(/max search depth too small/);
    return stdout;
  }

  test.each([
    ['claims, hand-overs and releases', ['MAX_EPOCH=2', 'MAX_OWNER=2']],
    ['renewals, and waiters that leave', ['MAX_EPOCH=3', 'MAX_OWNER=1', 'RENEW=1', 'GIVE_UP=1']],
    ['claims that come late', ['MAX_EPOCH=2', 'MAX_OWNER=1', 'LATE=1', 'GIVE_UP=1']],
    ['a fenced register', ['MAX_EPOCH=2', 'MAX_OWNER=2', 'REGISTER']],
  ])('holds in every state: %s', { timeout: TIMEOUT_MS }, async (_, settings) => {
    expect(await check(...settings)).toMatch(/errors: 0/);
  });

  const small = ['MAX_EPOCH=3', 'MAX_OWNER=2'];
  test.each([
    ['the deadline counts from a claim still in flight', [...small, 'COUNT_FROM_IN_FLIGHT']],
    ['an old grant message is believed', [...small, 'IGNORE_EPOCH']],
    ['a hand-over uses the ttl of whoever released', [...small, 'RELEASER_TTL']],
    ['an owner value is used again', [...small, 'REUSE_OWNER']],
    ['claiming what one holds does not re-arm it', [...small, 'NO_REARM']],
    ['a renewal may shorten the expiry', ['MAX_EPOCH=3', 'MAX_OWNER=1', 'RENEW=1', 'SHORTEN']],
    ['a message is published before the owner is chosen', [...small, 'PUBLISH_THEN_CHOOSE']],
    ['only writes raise the fence', [...small, 'REGISTER', 'WRITE_FENCE_ONLY']],
  ])('fails when %s', { timeout: TIMEOUT_MS }, async (_, settings) => {
    expect(await check(...settings)).toMatch(/assertion violated/);
  });
});
