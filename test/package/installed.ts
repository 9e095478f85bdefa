import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { promisify } from 'node:util';

export const run = promisify(execFile);

/** The root of this repository. */
export const ROOT: string = resolve(import.meta.dirname, '../..');

export interface Manifest {
  readonly exports: Readonly<Record<string, unknown>>;
  readonly allowScripts: Readonly<Record<string, boolean>>;
}

export async function readJson<T>(...path: string[]): Promise<T> {
  return JSON.parse(await readFile(join(ROOT, ...path), 'utf8')) as T;
}

/** The subpaths that the package offers, as `.` and `./name`. */
export async function subpaths(): Promise<string[]> {
  const { exports } = await readJson<Manifest>('package.json');
  return Object.keys(exports).filter((path) => path !== './package.json');
}

export interface Installation {
  /** A project of its own that has the packed package installed, and nothing of this repository's folders. */
  readonly folder: string;
  readonly tarball: string;
  remove(): Promise<void>;
}

/**
 * Packs the built package and installs it as a user would. Nothing is downloaded: peers and the types of Node.js are
 * links to what this repository has.
 */
export async function install(): Promise<Installation> {
  const folder = await mkdtemp(join(tmpdir(), 'leasehold-package-'));
  // Without the scripts: `prepack` would rebuild `dist/` under the tests that run meanwhile.
  const packed = await run('npm', ['pack', '--ignore-scripts', '--pack-destination', folder], {
    cwd: ROOT,
  });
  const tarball = join(folder, packed.stdout.trim().split('\n').at(-1) ?? '');
  await writeFile(join(folder, 'package.json'), '{ "private": true, "type": "module" }');
  await run('npm', ['install', '--offline', '--ignore-scripts', '--no-audit', tarball], {
    cwd: folder,
  });
  for (const name of ['lmdb', '@types']) {
    await symlink(join(ROOT, 'node_modules', name), join(folder, 'node_modules', name));
  }
  return { folder, tarball, remove: () => rm(folder, { recursive: true, force: true }) };
}
