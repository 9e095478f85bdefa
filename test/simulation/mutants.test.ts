/**
 * Proof that the simulation bites: with any one of these defects in the core, some schedule goes wrong.
 */
import { spawn } from 'node:child_process';
import { cp, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { MUTANTS, type Mutant } from './mutants.ts';

const BUILT = fileURLToPath(new URL('../../dist/src', import.meta.url));
/** Most mutants are caught within some dozens. */
const MAX_SEEDS = 4_000;
const MAX_RUN_MS = 60_000;

let root: string;

beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'leasehold-mutants-'));
});

afterAll(async () => {
  await rm(root, { recursive: true, force: true });
});

/** A copy of what the simulation consists of. */
async function copyCore(name: string): Promise<string> {
  const folder = join(root, name.replaceAll(/\W+/g, '-'));
  await mkdir(folder);
  await writeFile(join(folder, 'package.json'), JSON.stringify({ type: 'module' }));
  for (const part of ['core', 'testing/simulation']) {
    await cp(join(BUILT, part), join(folder, part), { recursive: true });
  }
  return folder;
}

async function patch(folder: string, { file, find, replace }: Mutant): Promise<void> {
  const path = join(folder, file);
  const parts = (await readFile(path, 'utf8')).split(find);
  expect(parts.length - 1, `occurrences of ${JSON.stringify(find)} in ${file}`).toBe(1);
  await writeFile(path, parts.join(replace));
}

function simulate(
  folder: string,
  from: number,
): Promise<{ readonly code: number | null; readonly said: string }> {
  return new Promise((resolve, reject) => {
    const program = join(folder, 'testing/simulation/program.js');
    const seeds = ['--from', String(from), '--count', String(MAX_SEEDS)];
    const child = spawn(process.execPath, [program, ...seeds], {
      stdio: ['ignore', 'pipe', 'pipe'],
      timeout: MAX_RUN_MS,
      killSignal: 'SIGKILL',
    });
    let said = '';
    child.stdout.on('data', (data) => {
      said += data;
    });
    child.stderr.on('data', (data) => {
      said += data;
    });
    child.on('error', reject);
    child.on('close', (code) => resolve({ code, said }));
  });
}

describe('the simulation finds', () => {
  it.each(MUTANTS)('$name', async (mutant) => {
    const folder = await copyCore(mutant.name);
    await patch(folder, mutant);
    const { code, said } = await simulate(folder, mutant.from ?? 1);
    expect(said).toMatch(/WRONG .*\n(.*\n)*replay it with: npm run simulate -- --seed \d+ --trace/);
    expect(code).toBe(1);
    await rm(folder, { recursive: true });
  });
});
