import { execFile } from 'node:child_process';
import { join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { expect, test } from 'vitest';

const ROOT = resolve(import.meta.dirname, '../..');

test.each([
  ['with the types of Node.js', 'tsconfig.json'],
  ['without them, and without disposables in the library', 'tsconfig.bare.json'],
])('the public face compiles %s', async (_, config) => {
  const tsc = join(ROOT, 'node_modules/.bin/tsc');
  const project = join(import.meta.dirname, 'samples', config);
  const { stdout } = await promisify(execFile)(tsc, ['-p', project]).catch((error) => error);
  expect(stdout).toBe('');
});
