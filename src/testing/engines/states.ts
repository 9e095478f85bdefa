/**
 * What every `StateStore` must do: the rules by which an effect happens exactly once.
 */
import assert from 'node:assert/strict';
import type {
  Commit,
  CommitMessage,
  LoadOutcome,
  Mark,
  StateStore,
} from '../../consumer/contracts.ts';
import { elisionCases } from './elision.ts';
import { messageOf, tokenOf } from './samples.ts';
import type { EngineCase, EngineTrial } from './suite.ts';

type Trial = EngineTrial<StateStore>;
type Loaded = Extract<LoadOutcome, { is: 'loaded' }>;

const KEY = 'contribution:42';
const [older, newer] = [tokenOf(7), tokenOf(9)];
const stale = { is: 'stale', fence: newer.tokenText };
/** For cases in which something becomes too old. */
const SHORT_WINDOW_MS = 1_500;

let commits = 0;

function commitOf(parts: Partial<Commit> = {}): Commit {
  commits += 1;
  return {
    key: KEY,
    lease: newer,
    id: `commit:${process.pid}:${commits}`,
    expectedVersion: 0,
    value: 'value',
    messages: [],
    ...parts,
  };
}

async function load(
  state: StateStore,
  messages: readonly CommitMessage[] = [],
  key: string = KEY,
): Promise<Loaded> {
  const outcome = await state.load(key, newer, messages);
  assert.equal(outcome.is, 'loaded');
  return outcome as Loaded;
}

/** What stands there, in a form that can be compared. */
async function look(
  state: StateStore,
  ids: readonly string[] = [],
): Promise<{ value: string | null; version: number; marks: [string, Mark][] }> {
  // The oldest time there is, so that looking prolongs nothing.
  const messages = ids.map((id) => messageOf(id, { publishedAtMs: 0 }));
  const { value, version, marks } = await load(state, messages);
  return { value, version, marks: [...marks].sort(([a], [b]) => (a < b ? -1 : 1)) };
}

async function committed(state: StateStore, parts: Partial<Commit>): Promise<void> {
  const commit = commitOf(parts);
  const expected = { is: 'committed', version: commit.expectedVersion + 1 };
  assert.deepEqual(await state.commit(commit), expected);
}

/** Commits a message as `make` dates it; again, and dated anew, where it had become too old on its way. */
function committedInTime(
  trial: Trial,
  state: StateStore,
  make: () => CommitMessage,
): Promise<CommitMessage> {
  return trial.until('a message arrives in time', async () => {
    const message = make();
    const outcome = await state.commit(commitOf({ messages: [message] }));
    if (outcome.is === 'too-old') return false;
    assert.deepEqual(outcome, { is: 'committed', version: 1 });
    return message;
  });
}

const known = (...marks: [string, Mark][]) => ({ is: 'known', marks: new Map(marks) });

async function nothingYet(trial: Trial): Promise<void> {
  const state = await trial.engine();
  assert.equal(await state.peek(KEY), null);
  const messages = [messageOf('a')];
  const expected = { is: 'loaded', value: null, version: 0, marks: new Map() };
  assert.deepEqual(await state.load(KEY, newer, messages), expected);
}

async function writesAll(trial: Trial): Promise<void> {
  const [state, other] = [await trial.engine(), await trial.engine()];
  await committed(state, { value: '5', messages: [messageOf('a'), messageOf('b')] });
  const expected = {
    value: '5',
    version: 1,
    marks: [
      ['a', 'applied'],
      ['b', 'applied'],
    ],
  };
  assert.deepEqual(await look(other, ['a', 'b', 'c']), expected);
  assert.equal(await other.peek(KEY), '5');
  await committed(other, { expectedVersion: 1, value: '6' });
  assert.equal(await state.peek(KEY), '6');
}

async function keysAreApart(trial: Trial): Promise<void> {
  const state = await trial.engine();
  const message = messageOf('a');
  const keys = ['a', 'b', 'a:1', 'ä{x}', '{x}', 'with a space', '雪'];
  for (const key of keys) await committed(state, { key, value: `of ${key}`, messages: [message] });
  for (const key of keys) {
    const { value, version } = await load(state, [], key);
    assert.deepEqual([value, version], [`of ${key}`, 1]);
  }
}

async function anyText(trial: Trial): Promise<void> {
  const state = await trial.engine();
  const values = ['', '雪\u0000\n"', 'x'.repeat(300_000), '{"total":5}'];
  const ids = ['', ' ', '雪\u0000', 'x'.repeat(5_000), 'a', 'A', 'a '];
  for (const [version, value] of values.entries()) {
    await committed(state, { expectedVersion: version, value });
    assert.equal((await load(state)).value, value);
  }
  for (const [index, id] of ids.entries()) {
    const expectedVersion = values.length + index;
    await committed(state, { expectedVersion, messages: [messageOf(id)] });
  }
  const { marks } = await load(
    state,
    ids.map((id) => messageOf(id)),
  );
  assert.deepEqual([...marks.keys()], ids);
}

async function manyMessages(trial: Trial): Promise<void> {
  const state = await trial.engine();
  const batch = (from: number, to: number): CommitMessage[] =>
    Array.from({ length: to - from }, (_, index) => messageOf(`m:${from + index}`));
  const ends = [0, 1, 3_001, 3_100, 3_101];
  for (let at = 1; at < ends.length; at += 1) {
    const messages = batch(ends[at - 1] as number, ends[at] as number);
    await committed(state, { expectedVersion: at - 1, messages });
  }
  const { marks } = await load(state, batch(0, 4_000));
  assert.equal(marks.size, 3_101);
  assert(batch(0, 3_101).every(({ id }) => marks.get(id) === 'applied'));
}

async function repeatedCommit(trial: Trial): Promise<void> {
  const [state, other] = [await trial.engine(), await trial.engine()];
  await committed(state, { value: '1' });
  const commit = commitOf({ expectedVersion: 1, value: '2', messages: [messageOf('a')] });
  for (const engine of [state, other, state]) {
    assert.deepEqual(await engine.commit(commit), { is: 'committed', version: 2 });
  }
  assert.deepEqual(await look(state, ['a']), { value: '2', version: 2, marks: [['a', 'applied']] });
  await committed(state, { expectedVersion: 2, value: '3' });
  assert.notEqual((await state.commit(commit)).is, 'committed', 'it is not the last one any more');
  assert.equal(await state.peek(KEY), '3');
}

async function repeatedBehindSuccessor(trial: Trial): Promise<void> {
  const [state, successor] = [await trial.engine(), await trial.engine()];
  const commit = commitOf({ lease: older, messages: [messageOf('a')] });
  assert.deepEqual(await state.commit(commit), { is: 'committed', version: 1 });
  await load(successor);
  assert.deepEqual(await state.commit(commit), { is: 'committed', version: 1 });
}

async function knownWritesNothing(trial: Trial): Promise<void> {
  const state = await trial.engine();
  await committed(state, { value: '1', messages: [messageOf('a'), messageOf('b')] });
  const messages = [messageOf('c'), messageOf('b'), messageOf('d')];
  const outcome = await state.commit(commitOf({ expectedVersion: 1, value: '2', messages }));
  assert.deepEqual(outcome, known(['b', 'applied']));
  const expected = { value: '1', version: 1, marks: [['b', 'applied']] };
  assert.deepEqual(await look(state, ['b', 'c', 'd']), expected);
  await committed(state, { expectedVersion: 1, messages: [messageOf('c'), messageOf('d')] });
}

async function staleWritesNothing(trial: Trial): Promise<void> {
  const [first, second] = [await trial.engine(), await trial.engine()];
  for (const [key, asked] of [
    ['a', []],
    ['b', [messageOf('x')]],
  ] as const) {
    const read = await first.load(key, older, asked);
    assert.equal(read.is, 'loaded');
    // The successor has only read: that alone shuts the door behind it.
    await load(second, asked, key);
    const messages = [messageOf('a')];
    assert.deepEqual(await first.commit(commitOf({ key, lease: older, messages })), stale);
    assert.deepEqual(await first.load(key, older, asked), stale);
    const { value, version, marks } = await load(second, messages, key);
    assert.deepEqual({ value, version, marks: marks.size }, { value: null, version: 0, marks: 0 });
    await committed(second, { key, messages });
  }
}

async function refusedRaises(trial: Trial): Promise<void> {
  const state = await trial.engine();
  const known = messageOf('a');
  const old = messageOf('old', { publishedAtMs: Date.now() - 2 * state.windowMs });
  const refused: Record<string, Partial<Commit>> = {
    moved: { expectedVersion: 7 },
    known: { expectedVersion: 1, messages: [known] },
    'too-old': { expectedVersion: 1, messages: [old] },
  };
  for (const [key, parts] of Object.entries(refused)) {
    await committed(state, { key, lease: older, messages: [known] });
    assert.equal((await state.commit(commitOf({ ...parts, key }))).is, key);
    // Whoever learned what there is may build on it.
    const late = commitOf({ key, lease: older, expectedVersion: 1 });
    assert.deepEqual(await state.commit(late), stale, `after one that is ${key}`);
  }
}

async function equalTokens(trial: Trial): Promise<void> {
  const state = await trial.engine();
  await committed(state, { value: '1' });
  const other = await trial.spawn();
  const answer = await trial.settles('a load', other.call('load', KEY, newer.tokenText));
  assert.equal(answer, 'stale', 'two processes never have the same token by right');
  const higher = await trial.settles('a load', other.call('load', KEY, tokenOf(10).tokenText));
  assert.equal(higher, 'loaded');
}

async function movedWritesNothing(trial: Trial): Promise<void> {
  const state = await trial.engine();
  await committed(state, { value: '1' });
  for (const expectedVersion of [0, 2]) {
    const outcome = await state.commit(commitOf({ expectedVersion, messages: [messageOf('a')] }));
    assert.deepEqual(outcome, { is: 'moved', version: 1 });
  }
  assert.deepEqual(await look(state, ['a']), { value: '1', version: 1, marks: [] });
}

async function raceOnVersions(trial: Trial): Promise<void> {
  const states = await Promise.all([trial.engine(), trial.engine(), trial.engine()]);
  const ROUNDS = 20;
  const work = states.map(async (state, worker) => {
    for (let round = 0; round < ROUNDS; ) {
      const { value, version } = await load(state);
      const outcome = await state.commit(
        commitOf({
          expectedVersion: version,
          value: String(Number(value ?? 0) + 1),
          messages: [messageOf(`${worker}:${round}`)],
        }),
      );
      if (outcome.is === 'committed') round += 1;
      else assert.equal(outcome.is, 'moved');
    }
  });
  await trial.settles('the work of all', Promise.all(work));
  const count = states.length * ROUNDS;
  const { value, version } = await load(states[0] as StateStore);
  assert.deepEqual([value, version], [String(count), count], 'no update is lost');
}

async function tooOldWritesNothing(trial: Trial): Promise<void> {
  const state = await trial.engine();
  const { windowMs } = state;
  const aged = (id: string, ageMs: number) => messageOf(id, { publishedAtMs: Date.now() - ageMs });
  const messages = [
    aged('good', windowMs / 2),
    aged('old', windowMs + 60_000),
    aged('ahead', -windowMs - 60_000),
  ];
  const outcome = await state.commit(commitOf({ messages }));
  assert.deepEqual(outcome, { is: 'too-old', ids: ['old', 'ahead'] });
  const nothing = { value: null, version: 0, marks: [] };
  assert.deepEqual(await look(state, ['good', 'old', 'ahead']), nothing);
  await committed(state, { messages: [aged('good', windowMs / 2), aged('young', -windowMs / 2)] });
}

/** Commits other messages until this one is refused as too old, and fails if it is ever applied. */
async function neverAppliedAgain(trial: Trial, state: StateStore, it: CommitMessage) {
  let others = 0;
  await trial.until('it is too old', async () => {
    others += 1;
    const { version } = await load(state);
    // Only a commit forgets; so there are some.
    const messages = [messageOf(`other:${others}`)];
    const other = await state.commit(commitOf({ expectedVersion: version, messages }));
    // It may have become too old on its way.
    if (other.is === 'too-old') return false;
    assert.deepEqual(other, { is: 'committed', version: version + 1 });
    const outcome = await state.commit(commitOf({ expectedVersion: version + 1, messages: [it] }));
    if (outcome.is === 'too-old') {
      assert(Date.now() - it.publishedAtMs >= state.windowMs, 'it is not too old yet');
      return true;
    }
    assert.deepEqual(outcome, known([it.id, 'applied']), 'it was applied twice');
    return false;
  });
}

async function windowEnds(trial: Trial): Promise<void> {
  const state = await trial.engine();
  const message = await committedInTime(trial, state, () => messageOf('a'));
  await neverAppliedAgain(trial, state, message);
}

/** A producer that got no answer published again, with a later time. */
function laterCopy(see: (state: StateStore, copy: CommitMessage) => Promise<unknown>) {
  return async (trial: Trial): Promise<void> => {
    const state = await trial.engine();
    const early = await committedInTime(trial, state, () =>
      messageOf('a', { publishedAtMs: Date.now() - SHORT_WINDOW_MS + 700 }),
    );
    const late = { ...early, publishedAtMs: Date.now() + SHORT_WINDOW_MS / 2 };
    await see(state, late);
    await neverAppliedAgain(trial, state, late);
  };
}

async function deadIsNotApplied(trial: Trial): Promise<void> {
  const state = await trial.engine();
  const message = messageOf('a');
  const dead = new Map([['a', 'dead-lettered']]);
  assert.deepEqual(await state.markDead(KEY, [message]), dead);
  assert.deepEqual(await state.markDead(KEY, [message]), dead, 'a second time changes nothing');
  const outcome = await state.commit(commitOf({ messages: [messageOf('b'), message] }));
  assert.deepEqual(outcome, known(['a', 'dead-lettered']));
  const expected = { value: null, version: 0, marks: [['a', 'dead-lettered']] };
  assert.deepEqual(await look(state, ['a', 'b']), expected);
}

async function appliedIsNotDead(trial: Trial): Promise<void> {
  const state = await trial.engine();
  await committed(state, { messages: [messageOf('a')] });
  const marks = await state.markDead(KEY, [messageOf('a'), messageOf('b')]);
  assert.deepEqual(
    new Map(marks),
    new Map([
      ['a', 'applied'],
      ['b', 'dead-lettered'],
    ]),
  );
  assert.deepEqual((await look(state, ['a'])).marks, [['a', 'applied']]);
}

async function replayClears(trial: Trial): Promise<void> {
  const state = await trial.engine();
  const [a, b] = [messageOf('a'), messageOf('b')];
  await state.markDead(KEY, [a, b]);
  const replay = messageOf('a', { isReplay: true });
  // Not cleared before it is applied: a commit that is refused for something else leaves the mark.
  const refused = commitOf({ messages: [replay, b] });
  assert.deepEqual(await state.commit(refused), known(['b', 'dead-lettered']));
  assert.deepEqual((await look(state, ['a'])).marks, [['a', 'dead-lettered']]);
  await committed(state, { messages: [replay] });
  for (const copy of [a, replay]) {
    const outcome = await state.commit(commitOf({ expectedVersion: 1, messages: [copy] }));
    assert.deepEqual(outcome, known(['a', 'applied']));
  }
  assert.deepEqual([...(await state.markDead(KEY, [replay]))], [['a', 'applied']]);
}

async function killedInMidCommit(trial: Trial): Promise<void> {
  const done: string[] = [];
  let token = 20;
  for (let kill = 0; kill < 4; kill += 1) {
    token += 1;
    const child = await trial.spawn();
    child.call('add', KEY, tokenOf(token).tokenText).catch(() => {});
    await trial.until('it has committed', () => child.done.length > 7 * kill + 3);
    await child.kill();
    done.push(...child.done);
  }
  const state = await trial.engine();
  const loaded = await state.load(
    KEY,
    tokenOf(token + 1),
    done.map((id) => messageOf(id)),
  );
  assert.equal(loaded.is, 'loaded');
  if (loaded.is !== 'loaded') return;
  assert.equal(loaded.value, String(loaded.version), 'each commit added one');
  assert.equal(loaded.marks.size, done.length, 'what was answered is there');
  // The last one of each process may be committed without an answer.
  assert(loaded.version >= done.length && loaded.version <= done.length + 4);
}

async function survivesRestart(trial: Trial): Promise<void> {
  const state = await trial.engine();
  await committed(state, { value: '1', messages: [messageOf('a')] });
  await state.markDead(KEY, [messageOf('b')]);
  await trial.restart();
  const again = await trial.engine();
  const marks = [
    ['a', 'applied'],
    ['b', 'dead-lettered'],
  ];
  // The process is another one to the engine, or not; a higher token is right in any case.
  const outcome = await again.load(KEY, tokenOf(12), [messageOf('a'), messageOf('b')]);
  assert.deepEqual(outcome, {
    is: 'loaded',
    value: '1',
    version: 1,
    marks: new Map(marks as never),
  });
}

async function closes(trial: Trial): Promise<void> {
  const state = await trial.engine();
  await committed(state, { value: '1' });
  await state.close();
  await state.close();
  assert.equal(await (await trial.engine()).peek(KEY), '1');
}

const seenByLoad = laterCopy((state, copy) => state.load(KEY, newer, [copy]));
const seenByCommit = laterCopy((state, copy) =>
  state.commit(commitOf({ expectedVersion: 1, messages: [copy] })),
);
const seenByMarkDead = laterCopy((state, copy) => state.markDead(KEY, [copy]));
const windowMs = SHORT_WINDOW_MS;

/** Every case, in the order in which a new state store best passes them. */
export const stateCases: readonly EngineCase<StateStore>[] = [
  { name: 'a key that nobody has committed has no value', run: nothingYet },
  { name: 'a commit writes the value and remembers the ids', run: writesAll },
  { name: 'keys have nothing in common', run: keysAreApart },
  { name: 'keys, values and ids are any text', run: anyText },
  { name: 'thousands of ids are each remembered', run: manyMessages },
  { name: 'a commit that is made again is done once', run: repeatedCommit },
  {
    name: 'a commit that is made again is done, whoever has read since',
    run: repeatedBehindSuccessor,
  },
  { name: 'a commit with a known id writes nothing', run: knownWritesNothing },
  {
    name: 'a stale token can neither read nor write, since reading raises the fence',
    run: staleWritesNothing,
  },
  { name: 'a commit that is refused raises the fence as well', run: refusedRaises },
  { name: 'an equal token of another process is stale', run: equalTokens, hooks: ['processes'] },
  { name: 'a commit on another version writes nothing', run: movedWritesNothing },
  { name: 'of commits on one version one is done', run: raceOnVersions },
  { name: 'a commit with a message out of the window writes nothing', run: tooOldWritesNothing },
  { name: 'an id is known until its message is too old', run: windowEnds, windowMs },
  { name: 'a later copy seen by a load is not applied either', run: seenByLoad, windowMs },
  { name: 'a later copy seen by a commit is not applied either', run: seenByCommit, windowMs },
  {
    name: 'a later copy that is not dead-lettered is not applied either',
    run: seenByMarkDead,
    windowMs,
  },
  { name: 'what is marked dead is not applied', run: deadIsNotApplied },
  { name: 'what is applied is not marked dead', run: appliedIsNotDead },
  { name: 'a replay clears the mark in the commit that applies it', run: replayClears },
  {
    name: 'a process killed in mid-commit has done all of it or nothing',
    run: killedInMidCommit,
    hooks: ['processes'],
  },
  { name: 'states outlive a restart', run: survivesRestart, hooks: ['restart'] },
  { name: 'states outlive their store, and closing again does nothing', run: closes },
  ...elisionCases,
];
