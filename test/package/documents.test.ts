import { readdirSync, readFileSync } from 'node:fs';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type Installation, install, ROOT, run } from './installed.ts';

const PAGES = [
  ...readdirSync(ROOT),
  ...readdirSync(join(ROOT, 'docs'), { recursive: true, encoding: 'utf8' }).map((name) =>
    join('docs', name),
  ),
].filter((name) => name.endsWith('.md'));
const SAMPLE = /^```ts\n(.*?)^```$/gms;
const CODE = /^```.*?^```$|`[^`\n]*`/gms;
/** The target of a link to a page of this repository. */
const LINK = /\]\((?!https?:)([^)\s]+)\)/g;

let installation: Installation;

beforeAll(async () => {
  installation = await install();
});

afterAll(() => installation?.remove());

test.each(PAGES.filter(hasPrograms))(
  'every program in %s compiles, runs and ends',
  async (page) => {
    const folder = join(installation.folder, page.replaceAll(/\W/g, '-'));
    await mkdir(folder);
    const samples = programsOf(page);
    const names = samples.map((_, index) => `sample${index + 1}`);
    for (const [index, name] of names.entries()) {
      await writeFile(join(folder, `${name}.ts`), samples[index] ?? '');
    }
    await writeFile(
      join(folder, 'tsconfig.json'),
      JSON.stringify({
        compilerOptions: {
          target: 'ES2022',
          module: 'NodeNext',
          strict: true,
          types: ['node'],
          typeRoots: ['../node_modules/@types'],
        },
      }),
    );
    await run(join(ROOT, 'node_modules/.bin/tsc'), ['-p', folder]).catch(showOutput);
    for (const name of names) {
      await run(process.execPath, [join(folder, `${name}.js`)], { cwd: folder, timeout: 30_000 });
    }
  },
);

test('every link between pages leads somewhere', async () => {
  const broken: string[] = [];
  for (const page of PAGES) {
    const text = (await readFile(join(ROOT, page), 'utf8')).replaceAll(CODE, '');
    for (const [, target = ''] of text.matchAll(LINK)) {
      const [path = '', anchor] = target.split('#');
      const file = path === '' ? page : join(dirname(page), path);
      const there = await readFile(join(ROOT, file), 'utf8').catch(() => null);
      if (there === null || (anchor && !anchorsOf(there).includes(anchor))) {
        broken.push(`${page}: ${target}`);
      }
    }
  }
  expect(broken).toEqual([]);
});

function hasPrograms(page: string): boolean {
  return programsOf(page).length > 0;
}

/** A sample that imports packages, and nothing of its reader's, is a whole program. Others are fragments. */
function programsOf(page: string): string[] {
  const text = readFileSync(join(ROOT, page), 'utf8');
  const samples = [...text.matchAll(SAMPLE)].map((match) => match[1] ?? '');
  return samples.filter((sample) => /^import /m.test(sample) && !/ from '\./.test(sample));
}

/** What the headings of a page are called in links to them. */
function anchorsOf(markdown: string): string[] {
  return [...markdown.matchAll(/^#+ (.+)$/gm)].map(([, heading = '']) =>
    heading
      .toLowerCase()
      .replaceAll(/[^\p{L}\p{N} _-]/gu, '')
      .replaceAll(' ', '-'),
  );
}

/** The compiler writes its complaints to the standard output. */
function showOutput(error: Error & { stdout?: string }): never {
  throw new Error(error.stdout ?? error.message, { cause: error });
}
