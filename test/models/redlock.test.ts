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
const CHECK_TIMEOUT_MS = 120_000;
const TIMEOUT_MS = CHECK_TIMEOUT_MS + 60_000;

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
    await run('gcc', ['-O', '-DSAFETY', '-DCOLLAPSE', '-DNOREDUCE', '-w', '-o', 'pan', 'pan.c'], {
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
    [
      'three clients, renewals that fill in, and a node that loses its data',
      ['RENEWALS=1', 'CRASHES=1'],
    ],
    ['a client that tries again', ['ATTEMPTS=4']],
    ['a fenced register, holders that stall, and clocks that are set', ['REGISTER']],
  ])('holds in every state: %s', { timeout: TIMEOUT_MS }, async (_, settings) => {
    expect(await check(...settings)).toMatch(/errors: 0/);
  });

  test.each([
    ['fewer than a majority are enough', ['MINORITY']],
    ['a node accepts any epoch', ['NO_EPOCH_CHECK']],
    ['a claim that is used up is believed', ['USED_UP']],
    ['acceptances of two attempts are counted together', ['ATTEMPTS=4', 'MIXED_ATTEMPTS']],
    ['the end of one attempt ends the next as well', ['ATTEMPTS=4', 'END_BY_OWNER']],
    ['a node that is filled in forgets a higher epoch', ['RENEWALS=1', 'FILL_LOWERS']],
    ['a node that forgot does not abstain', ['CRASHES=1', 'NO_ABSTENTION']],
    ['a node that forgot does not ask for epochs', ['CRASHES=1', 'NO_FLOOR']],
    ['a node that forgot asks before it has abstained', ['CRASHES=1', 'READ_EARLY']],
    ['only writes raise the fence', ['REGISTER', 'WRITE_FENCE_ONLY']],
  ])('fails when %s', { timeout: TIMEOUT_MS }, async (_, settings) => {
    expect(await check(...settings)).toMatch(/assertion violated/);
  });
});
