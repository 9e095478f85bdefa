/**
 * Fails when a store, or one of its fault hooks, is missing from the suite.
 */
import { existsSync, readdirSync } from 'node:fs';
import { conformanceCases, hookNames } from 'leasehold/testing';
import { describe, expect, test } from 'vitest';
import { fixtures } from './fixtures/index.ts';

/** These folders hold no engine, whatever their files are called. */
const NOT_ENGINES = ['core', 'testing', 'consumer', 'cli'];

function storeFolders(): string[] {
  const source = new URL('../../src/', import.meta.url);
  return readdirSync(source, { withFileTypes: true })
    .filter((entry) => entry.isDirectory() && !NOT_ENGINES.includes(entry.name))
    .map((entry) => entry.name)
    .filter((name) => readdirSync(new URL(`${name}/`, source)).includes('store.ts'))
    .sort();
}

test('every store has a fixture, and every fixture a store', () => {
  const names = fixtures.map((fixture) => fixture.name);
  expect(names.toSorted()).toEqual(storeFolders());
});

describe.each(fixtures)('the fixture of the $name store', ({ name, hooks }) => {
  test('is run', () => {
    expect(existsSync(new URL(`${name}.test.ts`, import.meta.url))).toBe(true);
  });

  test('has an entry for every hook, and no others', () => {
    expect(Object.keys(hooks).sort()).toEqual([...hookNames].sort());
  });

  test.each(hookNames)('can %s, or says why that cannot apply', (hookName) => {
    const hook = hooks[hookName];
    if (typeof hook === 'function') return;
    expect(hook.notApplicable).toMatch(/\w+ \w+/);
  });
});

/** What is skipped, and why: a change here is a decision, not an accident. */
test('the hooks that do not apply are these', () => {
  const skipped = fixtures.flatMap(({ name, hooks }) =>
    hookNames.flatMap((hookName) => {
      const hook = hooks[hookName];
      return typeof hook === 'function' ? [] : [`${name}, ${hookName}: ${hook.notApplicable}`];
    }),
  );
  expect(skipped).toEqual(['memory, processes: a memory space lives inside one process']);
});

test('every case has a name of its own', () => {
  const names = conformanceCases.map(({ name }) => name);
  expect(new Set(names).size).toBe(names.length);
});
