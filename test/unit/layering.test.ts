import { readdir, readFile } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { transform } from 'esbuild';
import { expect, test } from 'vitest';

const ROOT = resolve(import.meta.dirname, '../..');
/** What is made, fetched or kept by tools. */
const NOT_OURS = new Set(['node_modules', 'dist', 'coverage', '.git', '.leasehold']);
/** Folders of `src` that are no engine. */
const NO_ENGINE = new Set(['core', 'consumer', 'testing', 'cli']);
/** Engines that are planned are not named either. */
const ENGINES = /redis|redlock|zookeeper|rabbitmq|amqp|etcd|postgres|lmdb|embedded|inmemory/i;
const IMPORT = /\b(?:from|import)\s*\(?\s*'([^']+)'/g;

/** Which layers a layer may import from, besides its own folder. Everything else goes through the public names. */
const ALLOWED: Readonly<Record<string, readonly string[]>> = {
  index: ['core'],
  core: [],
  consumer: ['core'],
  engine: ['core', 'consumer'],
  testing: ['core', 'consumer'],
  cli: ['core', 'consumer', 'engine'],
};

/** An engine that stands on another. */
const STANDS_ON: Readonly<Record<string, string>> = { redlock: 'redis' };

interface Source {
  /** Relative to the root. */
  readonly path: string;
  readonly text: string;
}

async function filesUnder(folder: string): Promise<Source[]> {
  const entries = await readdir(join(ROOT, folder), { withFileTypes: true });
  const sources = entries
    .filter((entry) => !NOT_OURS.has(entry.name))
    .map(async (entry): Promise<Source[]> => {
      const path = join(folder, entry.name);
      if (entry.isDirectory()) return filesUnder(path);
      return entry.isFile() ? [{ path, text: await readFile(join(ROOT, path), 'utf8') }] : [];
    });
  return (await Promise.all(sources)).flat();
}

function folderOf(path: string): string {
  return path.split('/').length === 2 ? 'index' : (path.split('/')[1] ?? '');
}

function layerOf(folder: string): string {
  return folder === 'index' || NO_ENGINE.has(folder) ? folder : 'engine';
}

function importsOf(source: Source): string[] {
  return [...source.text.matchAll(IMPORT)].map((match) => match[1] ?? '');
}

test('imports point one way', async () => {
  const wrong: string[] = [];
  for (const source of await filesUnder('src')) {
    const from = folderOf(source.path);
    for (const target of importsOf(source).filter((name) => name.startsWith('.'))) {
      const path = join(dirname(source.path), target);
      const to = path.startsWith('src/') ? folderOf(path) : 'outside';
      if (from === to || STANDS_ON[from] === to) continue;
      if (!ALLOWED[layerOf(from)]?.includes(layerOf(to))) {
        wrong.push(`${source.path} imports ${target}`);
      }
    }
  }
  expect(wrong).toEqual([]);
});

test('apps and benchmarks use the package by its public name', async () => {
  const wrong: string[] = [];
  for (const top of ['apps', 'bench']) {
    for (const source of await filesUnder(top)) {
      const outside = importsOf(source)
        .filter((name) => name.startsWith('.'))
        .map((name) => join(dirname(source.path), name))
        // Benchmarks start the servers that tests start.
        .filter((path) => !path.startsWith(`${top}/`) && !(top === 'bench' && isServer(path)));
      wrong.push(...outside.map((name) => `${source.path} imports ${name}`));
    }
  }
  expect(wrong).toEqual([]);
});

const isServer = (path: string): boolean => path.startsWith('test/servers/');

test('the core and the consumer name no engine in their code', async () => {
  const sources = (await filesUnder('src')).filter((source) =>
    ['core', 'consumer', 'index'].includes(folderOf(source.path)),
  );
  for (const source of sources) {
    // The compiler leaves comments out: they may say where an algorithm comes from.
    const { code } = await transform(source.text, { loader: 'ts', legalComments: 'none' });
    expect(code, source.path).not.toMatch(ENGINES);
  }
});

test('no file names a folder of one machine or a package registry', async () => {
  // Put together here, so that this file passes its own test.
  const forbidden = new RegExp(
    ['work', 'home', 'root', 'Users'].map((name) => `(?<![\\w.)}*])/${name}/`).join('|') +
      `|${['registry', 'npmjs'].join('\\.')}|${['registry', 'yarnpkg'].join('\\.')}`,
  );
  const wrong = (await filesUnder('.'))
    .map((source) => ({ path: source.path, found: source.text.match(forbidden)?.[0] }))
    .filter(({ found }) => found !== undefined);
  expect(wrong).toEqual([]);
});
