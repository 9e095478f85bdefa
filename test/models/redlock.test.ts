/**
 * Checks the model of Redlock in every reachable state: as it is built, and with its rules broken.
 */
import { execFile } from 'node:child_process';
import { join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { removeFolder, temporaryFolder } from '../servers/processes.ts';
import { lane, TOOLS } from '../servers/require.ts';

const MODEL = resolve(import.meta.dirname, '../../models/redlock.pml');
const run = promisify(execFile);
const CHECK_TIMEOUT_MS = 240_000;
const TIMEOUT_MS = CHECK_TIMEOUT_MS + 60_000;
const SMALL = ['CLIENTS=2', 'MAX_EPOCH=2'];

lane('the model of Redlock', TOOLS.spin, (spin) => {
  let folder: string;
  beforeAll(() => {
    folder = temporaryFolder();
  });
  afterAll(() => removeFolder(folder));

  /** What the checker says of the model with these settings. */
  async function check(...settings: readonly string[]): Promise<string> {
    const defines = settings.map((setting) => `-D${setting}`);
    await run(spin, ['-a', ...defines, MODEL], { cwd: folder });
    await run('gcc', ['-O2', '-DSAFETY', '-DHC4', '-DNOREDUCE', '-w', '-o', 'pan', 'pan.c'], {
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
    ['renewals that fill in', ['RENEWALS=1']],
    ['a node that loses its data', ['CRASHES=1']],
  ])('holds in every state: %s', { timeout: TIMEOUT_MS }, async (_, settings) => {
    expect(await check(...SMALL, ...settings)).toMatch(/errors: 0/);
  });

  test.each([
    ['fewer than a majority are enough', ['MINORITY']],
    ['a node accepts any epoch', ['NO_EPOCH_CHECK']],
    ['a claim that is used up is believed', ['USED_UP']],
    ['a node that forgot does not abstain', ['CRASHES=1', 'NO_ABSTENTION']],
    ['a node that forgot does not ask for epochs', ['CRASHES=1', 'NO_FLOOR']],
    ['only writes raise the fence', ['REGISTER', 'WRITE_FENCE_ONLY']],
  ])('fails when %s', { timeout: TIMEOUT_MS }, async (_, settings) => {
    expect(await check(...SMALL, ...settings)).toMatch(/assertion violated/);
  });
});
