/**
 * Fails when a store, or one of its fault hooks, is missing from the suite.
 */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { conformanceCases, hookNames } from 'leasehold/testing';
import { describe, expect, test } from 'vitest';
import { fixtures as serverless } from './fixtures/index.ts';
import { redisFixtures } from './fixtures/redis.ts';
import { onFive, onThree } from './fixtures/redlock.ts';
import { zookeeperFixtures } from './fixtures/zookeeper.ts';

const onServers = [...redisFixtures, onThree, onFive, ...zookeeperFixtures].map(
  ({ fixture }) => fixture,
);
const fixtures = [...serverless, ...onServers];

/** A store may have several fixtures: the part before the comma names its folder. */
function folderOf(name: string): string {
  return name.split(',')[0] ?? name;
}

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
  const folders = new Set(fixtures.map(({ name }) => folderOf(name)));
  expect([...folders].sort()).toEqual(storeFolders());
});

describe.each(fixtures)('the fixture of the $name store', ({ name, hooks }) => {
  test('is run', () => {
    expect(existsSync(new URL(`${folderOf(name)}.test.ts`, import.meta.url))).toBe(true);
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

test('every topology of Redis is run by one file', () => {
  const calls = readdirSync(import.meta.dirname)
    .filter((file) => file.endsWith('.test.ts') && file !== 'registry.test.ts')
    .flatMap((file) => [
      ...readFileSync(`${import.meta.dirname}/${file}`, 'utf8').matchAll(
        /registerRedis\('([^']+)'\)/g,
      ),
    ])
    .map(([, topology]) => topology as string);
  for (const { fixture } of redisFixtures) {
    expect(
      calls.filter((topology) => fixture.name.startsWith(topology)),
      fixture.name,
    ).toHaveLength(1);
  }
});

/** What is skipped, and why: a change here is a decision, not an accident. */
test('the hooks that do not apply are these', () => {
  const skipped = fixtures.flatMap(({ name, hooks }) =>
    hookNames.flatMap((hookName) => {
      const hook = hooks[hookName];
      return typeof hook === 'function' ? [] : [`${name}, ${hookName}: ${hook.notApplicable}`];
    }),
  );
  const shared =
    'all cases share these servers, since they take seconds to start; faults of theirs are tests of their own';
  const onThreeMasters =
    'cases run at the same time on these masters, which would spoil each other; those on three masters do it';
  expect(skipped).toEqual([
    'memory, processes: a memory space lives inside one process',
    `redis, a master behind Sentinel, ioredis, restart: ${shared}`,
    `redis, a cluster of 3 + 3, ioredis, restart: ${shared}`,
    `redis, a cluster of 3 + 3, redis, restart: ${shared}`,
    `redlock, 5 masters, restart: ${onThreeMasters}`,
    `redlock, 5 masters, processes: ${onThreeMasters}`,
  ]);
});

test('every case has a name of its own', () => {
  const names = conformanceCases.map(({ name }) => name);
  expect(new Set(names).size).toBe(names.length);
});
