/**
 * Proof that the simulation bites: with any one of these rules left out of the consumer, some schedule goes wrong.
 */
import { cp, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type Modules, simulate } from './simulation.ts';

const ROOT = resolve(import.meta.dirname, '../..');
const MAX_SEEDS = 400;

interface Mutant {
  readonly name: string;
  readonly file: string;
  /** Stands exactly once in the built file, so that this list cannot fall behind the code. */
  readonly find: string;
  readonly replace: string;
}

const MUTANTS: readonly Mutant[] = [
  {
    name: 'copies within a batch reach the reducer',
    file: 'consumer/message.js',
    find: 'if (items.length < 2)',
    replace: 'if (items.length > 0)',
  },
  {
    name: 'what a load knows reaches the reducer, and the commit does not look',
    file: 'memory/state.js',
    find: 'if (marks.size > 0)',
    replace: 'if (false)',
  },
  {
    name: 'a known id is written all the same, and the rest with it',
    file: 'consumer/reducing.js',
    find: 'items = this.#settling.known(items, outcome.marks);',
    replace: '{ this.#settling.known(items, outcome.marks); return null; }',
  },
  {
    name: 'a commit of unknown outcome counts as made',
    file: 'consumer/reducing.js',
    find: "if (outcome?.is === 'committed')",
    replace: "if (!outcome || outcome.is === 'committed')",
  },
  {
    name: 'what is stale counts as done',
    file: 'consumer/lanes.js',
    find: 'lane.waiting.unshift(...unfinished.items);',
    replace: 'this.#settling.applied(unfinished.items);',
  },
  {
    name: 'a state that a reducer left half changed is used again',
    file: 'consumer/reducer.js',
    find: 'this.#reduction.reduce(this.#decode(text), [item])',
    replace: 'this.#reduction.reduce((base.state ??= this.#decode(text)), [item])',
  },
  {
    name: 'acknowledged before the copy is safe',
    file: 'consumer/settling.js',
    find: 'const envelopes = items.map((item) => counted(item.envelope, why));\n        const isSafe',
    replace:
      'const envelopes = items.map((item) => counted(item.envelope, why));\n' +
      'await Promise.all(items.map((item) => item.origin.engine.acknowledge([item.delivery])));\nconst isSafe',
  },
  {
    name: 'dead-lettered without a mark',
    file: 'consumer/settling.js',
    find: 'if (!state || !key)',
    replace: 'if (true)',
  },
  {
    name: 'dead-lettered although it was applied',
    file: 'consumer/settling.js',
    find: 'if (applied.length === 0)',
    replace: 'if (true)',
  },
  {
    name: 'a copy of what is marked dead is acknowledged',
    file: 'consumer/settling.js',
    find: "this.dead(dead, 'dead-before', 'it is marked as dead-lettered; this copy came again');",
    replace: 'this.duplicates(dead);',
  },
  {
    name: 'a replay counts as dead',
    file: 'consumer/settling.js',
    find: "=== 'dead-lettered' && !item.isReplay",
    replace: "=== 'dead-lettered'",
  },
  {
    name: 'poison takes its batch with it',
    file: 'consumer/reducer.js',
    find: 'return this.#singly(base, items);',
    replace:
      'return { text: "", state: null, done: [], failures: items.map((item) => ({ item, cause })) };',
  },
  {
    name: 'acknowledged before the commit',
    file: 'consumer/reducing.js',
    find: 'const outcome = await this.#commit(key, lease, base, reduced);',
    replace:
      'this.#settling.applied(reduced.done);' +
      'const outcome = await this.#commit(key, lease, base, reduced);',
  },
  {
    name: 'the reducer runs again on the state that it has changed',
    file: 'consumer/reducing.js',
    find: "base = outcome.is === 'moved' ? null : asStored(base);",
    replace: "base = outcome.is === 'moved' ? null : base;",
  },
  {
    name: 'a state that came to nothing is kept as the reducer left it',
    file: 'consumer/reducing.js',
    find: 'kept?.put(key, asStored(base));',
    replace: 'kept?.put(key, base);',
  },
  {
    name: 'a commit without the lock does not look whether somebody has it',
    file: 'memory/state.js',
    find: 'if (space.isTaken(commit.lockName))',
    replace: 'if (false)',
  },
  {
    name: 'a commit without the lock does not look whether the state is the one that was seen',
    file: 'memory/state.js',
    find: 'if (version !== commit.expectedVersion || fence !== commit.expectedFence)',
    replace: 'if (false)',
  },
  {
    name: 'a commit without the lock that was not answered counts as made',
    file: 'consumer/eliding.js',
    find: "calls.notAnswered(base ? 'commit' : 'look', cause);",
    replace: 'return [];',
  },
  {
    name: 'what has to wait for the lock is left for nobody once another batch was committed without it',
    file: 'consumer/eliding.js',
    find: 'if (!rest)\n                        return items;',
    replace: 'if (!rest)\nreturn last === null ? items : [];',
  },
  {
    name: 'acknowledged before the commit without the lock',
    file: 'consumer/eliding.js',
    find: 'const outcome = await elision.commit({',
    replace: 'settling.applied(done);\nconst outcome = await elision.commit({',
  },
  {
    name: 'without the lock, too, a state is used again as the reducer left it',
    file: 'consumer/eliding.js',
    find: 'return { base: asStored(base), items: settling.known(items, outcome.marks) };',
    replace: 'return { base, items: settling.known(items, outcome.marks) };',
  },
  {
    name: 'what is too old for a commit without the lock is committed with the rest',
    file: 'consumer/eliding.js',
    find: 'items: settling.tooOld(items, outcome.ids)',
    replace: 'items: (settling.tooOld(items, outcome.ids), [])',
  },
];

/** No rule is left out: only luck is. */
const UNLUCKY: Mutant = {
  name: 'a state that was never seen is always taken for one that does not exist',
  file: 'consumer/eliding.js',
  find: 'this.#newShare > 1 / 2',
  replace: 'true',
};
const UNLUCKY_SEEDS = 100;

let folder: string;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'leasehold-consumer-mutants-'));
  await writeFile(join(folder, 'package.json'), '{ "type": "module" }');
  await symlink(join(ROOT, 'node_modules'), join(folder, 'node_modules'));
});

afterAll(() => rm(folder, { recursive: true, force: true }));

async function mutated({ file, find, replace }: Mutant, index: number): Promise<Modules> {
  // What is in a folder of this name is loaded by Node itself, as built code is everywhere in these tests.
  const copy = join(folder, 'dist', `mutant-${index}`);
  for (const part of ['index.js', 'core', 'consumer', 'memory']) {
    await cp(join(ROOT, 'dist/src', part), join(copy, part), { recursive: true });
  }
  const path = join(copy, file);
  const parts = (await readFile(path, 'utf8')).split(find);
  expect(parts.length - 1, `occurrences of ${JSON.stringify(find)} in ${file}`).toBe(1);
  await writeFile(path, parts.join(replace));
  const load = (name: string) => import(pathToFileURL(join(copy, name)).href);
  return {
    core: await load('index.js'),
    consumer: await load('consumer/index.js'),
    memory: await load('memory/index.js'),
  };
}

describe('the simulation finds', () => {
  test.each(MUTANTS.map((mutant, index) => [mutant.name, mutant, index] as const))(
    '%s',
    async (_, mutant, index) => {
      const modules = await mutated(mutant, index);
      let seeds = 0;
      let wrong: readonly string[] = [];
      while (wrong.length === 0 && seeds < MAX_SEEDS) {
        seeds += 1;
        ({ wrong } = await simulate(modules, seeds));
      }

      expect(wrong).not.toEqual([]);
    },
    120_000,
  );
});

test(`nothing goes wrong when ${UNLUCKY.name}`, async () => {
  const modules = await mutated(UNLUCKY, MUTANTS.length);
  for (let seed = 1; seed <= UNLUCKY_SEEDS; seed += 1) {
    const { wrong } = await simulate(modules, seed);
    expect(wrong, `seed ${seed}`).toEqual([]);
  }
}, 120_000);
