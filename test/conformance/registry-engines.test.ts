/**
 * Fails when a state store, an outbox, or one of their fault hooks is missing from the suites.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { engineHookNames, outboxCases, stateCases } from 'leasehold/testing';
import { describe, expect, test } from 'vitest';
import { outboxFixtures, redisOutboxFixtures } from './fixtures/outboxes.ts';
import { redisStateFixtures, stateFixtures } from './fixtures/states.ts';

const SOURCE = new URL('../../src/', import.meta.url);

const kinds = [
  {
    contract: 'StateStore',
    fixtures: [...stateFixtures, ...redisStateFixtures.map(({ fixture }) => fixture)],
    cases: stateCases,
  },
  {
    contract: 'Outbox',
    fixtures: [...outboxFixtures, ...redisOutboxFixtures.map(({ fixture }) => fixture)],
    cases: outboxCases,
  },
];

/** The folders of `src` in which a class implements the contract. */
function enginesOf(contract: string): string[] {
  const files = readdirSync(SOURCE, { recursive: true, encoding: 'utf8' });
  const found = files
    .filter((file) => file.endsWith('.ts'))
    .filter((file) =>
      readFileSync(new URL(file, SOURCE), 'utf8').includes(`implements ${contract}`),
    )
    .map((file) => file.split('/')[0] as string);
  return [...new Set(found)].sort((a, b) => (a < b ? -1 : 1));
}

describe.each(kinds)('every $contract', ({ contract, fixtures, cases }) => {
  test('has a fixture, and every fixture an engine', () => {
    const folders = new Set(fixtures.map(({ name }) => name.split(',')[0] as string));
    expect([...folders].sort((a, b) => (a < b ? -1 : 1))).toEqual(enginesOf(contract));
  });

  test('has an entry for every hook, or says why that cannot apply', () => {
    for (const { hooks } of fixtures) {
      expect(Object.keys(hooks).length).toBe(engineHookNames.length);
      for (const name of engineHookNames) {
        const hook = hooks[name];
        if (typeof hook !== 'function') expect(hook.notApplicable).toMatch(/\w+ \w+/);
      }
    }
  });

  test('has cases with names of their own', () => {
    expect(new Set(cases.map(({ name }) => name)).size).toBe(cases.length);
  });
});

/** What is skipped: a change here is a decision, not an accident. */
test('the hooks that do not apply are these', () => {
  const skipped = kinds.flatMap(({ contract, fixtures }) =>
    fixtures.flatMap(({ name, hooks }) =>
      engineHookNames
        .filter((hook) => typeof hooks[hook] !== 'function')
        .map((hook) => `${contract}, ${name}, ${hook}`),
    ),
  );
  const expected = ['StateStore', 'Outbox'].flatMap((contract) => [
    `${contract}, memory, restart`,
    `${contract}, memory, processes`,
    `${contract}, redis, a cluster of 3 + 3, ioredis, restart`,
    `${contract}, redis, a cluster of 3 + 3, redis, restart`,
  ]);
  // Where a state and its lock are not in one place; and an outbox has none.
  const locked = [
    'embedded',
    'redis, a cluster of 3 + 3, ioredis',
    'redis, a cluster of 3 + 3, redis',
  ];
  expected.push(...locked.map((name) => `StateStore, ${name}, elision`));
  const outboxes = ['memory', 'redis, one server, url', 'redis, one server, redis', ...locked];
  expected.push(...outboxes.map((name) => `Outbox, ${name}, elision`));
  expect(skipped.sort()).toEqual(expected.sort());
});
