/**
 * Fails when a source, or one of its fault hooks, is missing from the suite.
 */
import { existsSync, readdirSync } from 'node:fs';
import { sourceCases, sourceHookNames } from 'leasehold/testing';
import { expect, test } from 'vitest';
import { fixture as embedded } from './embedded.ts';
import { fixture as memory } from './memory.ts';
import { SharedBroker } from './rabbitmq.ts';

const fixtures = [memory, embedded, new SharedBroker().fixture];

test('every folder with a source has a fixture, and the fixture is run', () => {
  const source = new URL('../../../src/', import.meta.url);
  const folders = readdirSync(source, { recursive: true, encoding: 'utf8' })
    .filter((path) => /^\w+\/(?:\w+\/)?source\.ts$/.test(path))
    .map((path) => String(path.split('/')[0]));
  expect(fixtures.map(({ name }) => name).toSorted()).toEqual(folders.toSorted());
  for (const { name } of fixtures) {
    expect(existsSync(new URL(`${name}.test.ts`, import.meta.url)), name).toBe(true);
  }
});

test('every hook is there, and those that do not apply are these', () => {
  const skipped = fixtures.flatMap(({ name, hooks }) => {
    expect(Object.keys(hooks).toSorted()).toEqual(sourceHookNames.toSorted());
    return sourceHookNames
      .filter((hook) => typeof hooks[hook] !== 'function')
      .map((hook) => `${name}, ${hook}`);
  });
  expect(skipped).toEqual([
    'memory, restart',
    'memory, processes',
    'embedded, cut',
    'embedded, restart',
  ]);
});

test('every case has a name of its own', () => {
  const names = sourceCases.map(({ name }) => name);
  expect(new Set(names).size).toBe(names.length);
});
