import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { build } from 'esbuild';
import { publint } from 'publint';
import { formatMessage } from 'publint/utils';
import { afterAll, beforeAll, expect, test } from 'vitest';
import {
  type Installation,
  install,
  type Manifest,
  ROOT,
  readJson,
  run,
  subpaths,
} from './installed.ts';

/** The promised size of the core entry, bundled and minified. */
const MAX_CORE_BYTES = 15_500;
/** Folders of `src` that are not offered to import. */
const INTERNAL = ['core', 'cli'];

let installation: Installation;

beforeAll(async () => {
  installation = await install();
});

afterAll(() => installation?.remove());

test('every subpath can be imported and required, and gives the same names', async () => {
  for (const subpath of await subpaths()) {
    const name = `leasehold${subpath.slice(1)}`;
    const imported = await evaluate('module', `import * as all from '${name}';`);
    const required = await evaluate('commonjs', `const all = require('${name}');`);
    expect(imported, name).not.toEqual([]);
    expect(required, name).toEqual(imported);
  }
});

test('the command is installed, and runs', async () => {
  const { stdout } = await run(join(installation.folder, 'node_modules/.bin/leasehold'), [
    '--help',
  ]);
  expect(stdout).toMatch(/^Usage:\n {2}leasehold locks list/);
});

test('publint has nothing to say', async () => {
  const pkgDir = join(installation.folder, 'node_modules/leasehold');
  const { messages, pkg } = await publint({ pkgDir, pack: false, strict: true });
  expect(messages.map((message) => formatMessage(message, pkg))).toEqual([]);
});

test('types resolve wherever the package can be loaded', async () => {
  const attw = join(ROOT, 'node_modules/.bin/attw');
  // It exits with an error, and with the table of what it found, unless all is well.
  await run(attw, [installation.tarball, '--profile', 'esm-only', '--no-emoji']);
});

test('the core entry is small and depends on nothing', async () => {
  const { metafile, outputFiles } = await build({
    absWorkingDir: ROOT,
    entryPoints: ['dist/src/index.js'],
    bundle: true,
    minify: true,
    platform: 'node',
    format: 'esm',
    metafile: true,
    write: false,
  });
  const bytes = outputFiles[0]?.contents.length ?? Number.NaN;
  process.stdout.write(`core entry, minified: ${bytes} bytes of at most ${MAX_CORE_BYTES}\n`);
  expect(bytes).toBeLessThan(MAX_CORE_BYTES);

  const inputs = Object.entries(metafile.inputs);
  const outside = inputs.filter(([path]) => !/^dist\/src\/(index\.js$|core\/)/.test(path));
  expect(outside).toEqual([]);
  const external = inputs.flatMap(([, input]) => input.imports).filter((one) => one.external);
  expect(external.map((one) => one.path).filter((path) => !path.startsWith('node:'))).toEqual([]);
});

test('every subpath is a folder of src, and the other way round', async () => {
  const entries = await readdir(join(ROOT, 'src'), { withFileTypes: true });
  const folders = entries.filter((entry) => entry.isDirectory()).map((entry) => entry.name);
  const offered = folders.filter((folder) => !INTERNAL.includes(folder)).map((name) => `./${name}`);
  expect(['.', ...offered].sort()).toEqual((await subpaths()).sort());
});

interface LockedPackage {
  readonly resolved?: string;
  readonly hasInstallScript?: boolean;
  readonly optionalDependencies?: Readonly<Record<string, string>>;
}

test('the lock file installs everywhere', async () => {
  const { packages } = await readJson<{ packages: Record<string, LockedPackage> }>(
    'package-lock.json',
  );
  const { allowScripts } = await readJson<Manifest>('package.json');
  for (const [path, locked] of Object.entries(packages)) {
    // Whoever installs decides where from.
    expect(locked.resolved, path).toBeUndefined();
    if (locked.hasInstallScript) expect(allowScripts).toHaveProperty([nameOf(path)], true);
    // A lock file made where a platform's package was out of reach leaves it out, and `npm ci` refuses it.
    for (const name of Object.keys(locked.optionalDependencies ?? {})) {
      const candidates = [`${path}/node_modules/${name}`, `node_modules/${name}`];
      expect(
        candidates.some((candidate) => candidate in packages),
        `${name}, wanted by ${path}`,
      ).toBe(true);
    }
  }
});

function nameOf(path: string): string {
  return path.slice(path.lastIndexOf('node_modules/') + 'node_modules/'.length);
}

async function evaluate(type: 'module' | 'commonjs', load: string): Promise<string[]> {
  const script = `${load} console.log(JSON.stringify(Object.keys(all).sort()))`;
  const { stdout } = await run(process.execPath, [`--input-type=${type}`, '--eval', script], {
    cwd: installation.folder,
  });
  return (JSON.parse(stdout) as string[]).filter((name) => name !== '__esModule');
}
