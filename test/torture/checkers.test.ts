/** The judges, on histories of which it is known whether they are good. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { removeFolder, temporaryFolder } from '../servers/processes.ts';
import { judgeLeases } from './checkers/leases.ts';
import { check, type Operation } from './checkers/linearizable.ts';
import { judgeQueue } from './checkers/queue.ts';
import { type Input, judgeRegisters, REGISTER } from './checkers/register.ts';
import { type Entry, type Line, Recorder, readHistory, UnreadableHistoryError } from './history.ts';

const read = (callUs: number, returnUs: number, value: string): Operation<Input> => ({
  id: `read ${value} at ${callUs}`,
  callUs,
  returnUs,
  input: { is: 'read', value },
});
const update = (callUs: number, returnUs: number, from: string, to: string): Operation<Input> => ({
  id: `${from || 'nothing'} to ${to}`,
  callUs,
  returnUs,
  input: { is: 'update', from, to },
});
const { is: good } = check<Input>([], REGISTER);

describe('linearizability', () => {
  const GOOD: readonly (readonly [string, readonly Operation<Input>[]])[] = [
    ['nothing happened', []],
    ['one after the other', [update(0, 1, '', 'a'), read(2, 3, 'a'), update(4, 5, 'a', 'b')]],
    ['a read beside an update sees the old value', [update(0, 9, '', 'a'), read(2, 3, '')]],
    ['a read beside an update sees the new value', [update(0, 9, '', 'a'), read(2, 3, 'a')]],
    [
      'two updates at once, the later call first',
      [update(0, 9, 'b', 'a'), update(1, 8, '', 'b'), read(10, 11, 'a')],
    ],
    ['an unknown update that happened', [update(0, Infinity, '', 'a'), read(5, 6, 'a')]],
    ['an unknown update that never happened', [update(0, Infinity, '', 'a'), read(5, 6, '')]],
    [
      'an unknown update that happened after a read that missed it',
      [update(0, Infinity, '', 'a'), read(5, 6, ''), read(7, 8, 'a')],
    ],
    [
      'a choice that has to be taken back',
      [update(0, 20, '', 'a'), update(0, 20, '', 'b'), update(0, 20, 'b', ''), read(21, 22, 'a')],
    ],
  ];
  const BAD: readonly (readonly [string, readonly Operation<Input>[], string])[] = [
    ['a stale read', [update(0, 1, '', 'a'), read(2, 3, '')], 'read  at 2'],
    ['a value from nowhere', [read(0, 1, 'x')], 'read x at 0'],
    ['a read of the future', [read(0, 1, 'a'), update(2, 3, '', 'a')], 'read a at 0'],
    [
      'a lost update',
      [update(0, 5, '', 'a'), update(1, 6, '', 'b'), read(7, 8, 'b')],
      'nothing to b',
    ],
    ['reads that go back', [update(0, 9, '', 'a'), read(1, 2, 'a'), read(3, 4, '')], 'read  at 3'],
    [
      'an unknown update that is undone',
      [update(0, Infinity, '', 'a'), read(5, 6, 'a'), read(7, 8, '')],
      'read  at 7',
    ],
  ];

  test.each(GOOD)('%s', (_, history) => {
    expect(check(history, REGISTER)).toEqual({ is: 'linearizable' });
  });

  test.each(BAD)('not %s', (_, history, stuck) => {
    expect(check(history, REGISTER)).toEqual({ is: 'not-linearizable', stuck });
  });

  test('says so when the search is too large', () => {
    const history = [update(0, 9, '', 'a'), update(0, 9, 'a', 'b'), update(0, 9, 'b', 'c')];
    expect(check(history, REGISTER, 2)).toEqual({ is: 'undecided' });
    expect(check(history, REGISTER, 3)).toEqual({ is: 'linearizable' });
  });

  /** Intervals and values from few, so that many histories are linearizable and many are not. */
  const someOperation = fc
    .record({
      callUs: fc.nat(12),
      lasts: fc.nat(6),
      isKnown: fc.boolean(),
      from: fc.constantFrom('', 'a', 'b'),
      to: fc.constantFrom('read', 'a', 'b', ''),
    })
    .map(({ callUs, lasts, isKnown, from, to }, index = callUs) => {
      const returnUs = isKnown || to === 'read' ? callUs + lasts : Infinity;
      if (to === 'read') return { ...read(callUs, returnUs, from), id: `${index}` };
      return { ...update(callUs, returnUs, from, to), id: `${index}` };
    });

  test('agrees with trying every order', () => {
    let linearizable = 0;
    fc.assert(
      fc.property(fc.array(someOperation, { maxLength: 6 }), (history) => {
        const expected = isLinearizable(history, REGISTER.initial, []);
        if (expected) linearizable += 1;
        expect(check(history, REGISTER).is).toBe(expected ? good : 'not-linearizable');
      }),
      { numRuns: 3_000 },
    );
    expect(linearizable).toBeGreaterThan(300);
    expect(linearizable).toBeLessThan(2_700);
  });

  /** The definition, tried out: some order of some operations that keeps to the times and to the model. */
  function isLinearizable(
    left: readonly Operation<Input>[],
    state: string,
    done: readonly Operation<Input>[],
  ): boolean {
    if (left.every(({ returnUs }) => returnUs === Infinity)) return true;
    return left.some((next) => {
      const others = left.filter((one) => one !== next);
      if (others.some(({ returnUs }) => returnUs < next.callUs)) return false;
      const after = REGISTER.step(state, next.input);
      return after !== null && isLinearizable(others, after, [...done, next]);
    });
  }
});

/** Entries at 1, 2, 3 … microseconds; the worker is the first part. */
function historyOf(...lines: readonly (readonly [string, Line])[]): Entry[] {
  return lines.map(([worker, line], index) => ({ ...line, worker, atUs: index + 1 }));
}

describe('registers', () => {
  const reads = (op: string): Line => ({ is: 'reads', op, key: 'k', isFenced: true });
  const hasRead = (op: string, value: string | null): Line => ({ is: 'has-read', op, value });
  const writes = (op: string, value: string): Line => ({ is: 'writes', op, value });
  const done = (op: string): Line => ({ is: 'ended', op, outcome: 'done' });
  const judge = (entries: readonly Entry[], final: string | null) =>
    judgeRegisters(entries, true, new Map([['k', final]]));

  const both = historyOf(
    ['w0-0', reads('1')],
    ['w0-0', hasRead('1', null)],
    ['w1-0', reads('2')],
    ['w1-0', hasRead('2', null)],
    ['w0-0', writes('1', 'a')],
    ['w0-0', done('1')],
    ['w1-0', writes('2', 'b')],
  );

  test('an acknowledged update that the end does not stand on is lost', () => {
    const found = judge([...both, { ...done('2'), worker: 'w1-0', atUs: 9 } as Entry], 'b');
    expect(found).toMatchObject({ updates: 2, lost: ['k: 1'], notLinearizable: ['k: 2 update'] });
  });

  test('one whose outcome is not known may be there or not', () => {
    expect(judge(both, 'a')).toMatchObject({
      updates: 1,
      unknown: 1,
      lost: [],
      notLinearizable: [],
    });
    expect(judge(both, 'b')).toMatchObject({ lost: ['k: 1'] });
  });

  test('one that the fence refused is not there', () => {
    const refused = { is: 'ended', op: '2', outcome: 'stale', worker: 'w1-0', atUs: 9 } as Entry;
    expect(judge([...both, refused], 'a')).toMatchObject({ refused: 1, lost: [] });
    expect(judge([...both, refused], 'b').notLinearizable).toHaveLength(1);
  });

  test('a final value that nobody wrote', () => {
    expect(judge(both, null)).toMatchObject({ lost: ['k: 1'], notLinearizable: ['k: the end'] });
  });
});

describe('leases', () => {
  const asked = (call: string): Line => ({ is: 'asked', call, key: 'k' });
  const granted = (call: string, token: string): Line => ({ is: 'granted', call, token });
  const held = (call: string): Line => ({ is: 'held', call });

  test('two that were valid at once', () => {
    const entries = historyOf(
      ['w0-0', asked('1')],
      ['w1-0', asked('2')],
      ['w0-0', granted('1', '5')],
      ['w0-0', held('1')],
      ['w1-0', granted('2', '6')],
      ['w0-0', held('1')],
      ['w1-0', held('2')],
    );
    expect(judgeLeases(entries).overlaps).toHaveLength(1);
    // Without the last look of the first, nobody knows that it was still valid.
    expect(judgeLeases(entries.filter(({ atUs }) => atUs !== 6)).overlaps).toEqual([]);
  });

  test('a token below one that was granted before it was asked for', () => {
    const entries = (token: string) =>
      historyOf(
        ['w0-0', asked('1')],
        ['w0-0', granted('1', '5')],
        ['w1-0', asked('2')],
        ['w1-0', granted('2', token)],
      );
    expect(judgeLeases(entries('6')).tokens).toEqual([]);
    expect(judgeLeases(entries('5')).tokens).toHaveLength(1);
    expect(judgeLeases(entries('4')).tokens).toHaveLength(1);
  });

  test('a caller that was served before one that had called earlier, in one process only', () => {
    const entries = (other: string) =>
      historyOf(
        ['w0-0', asked('1')],
        [other, asked('2')],
        [other, granted('2', '5')],
        ['w0-0', granted('1', '6')],
      );
    expect(judgeLeases(entries('w0-0')).overtaken).toHaveLength(1);
    expect(judgeLeases(entries('w1-0')).overtaken).toEqual([]);
  });
});

describe('the queue', () => {
  const claims = (owner: string): Line => ({ is: 'claims', owner, key: 'k' });
  const entries = (first: bigint, second: bigint) =>
    historyOf(
      ['w0-0', claims('a')],
      ['w0-0', { is: 'waits', owner: 'a' }],
      ['w1-0', claims('b')],
      ['w0-0', { is: 'owns', owner: 'a', epoch: `${first}` }],
      ['w1-0', { is: 'owns', owner: 'b', epoch: `${second}` }],
    );

  test('who waits is served before who comes later', () => {
    expect(judgeQueue(entries(1n, 2n), [])).toMatchObject({ judged: 1, inversions: [] });
    expect(judgeQueue(entries(2n, 1n), []).inversions).toHaveLength(1);
  });

  test('unless something has failed for it', () => {
    const fault = { fromUs: 3, toUs: 3, worker: 0 };
    expect(judgeQueue(entries(2n, 1n), [fault])).toMatchObject({ excused: 1, inversions: [] });
    expect(judgeQueue(entries(2n, 1n), [{ ...fault, worker: null }]).excused).toBe(1);
    expect(judgeQueue(entries(2n, 1n), [{ ...fault, worker: 1 }]).inversions).toHaveLength(1);
    expect(judgeQueue(entries(2n, 1n), [{ ...fault, fromUs: 9, toUs: 9 }]).judged).toBe(1);
  });

  test('and who did not wait yet may be passed', () => {
    const late = entries(2n, 1n).filter(({ is }) => is !== 'waits');
    expect(judgeQueue(late, [])).toMatchObject({ judged: 0, inversions: [] });
  });
});

describe('a history in files', () => {
  test('is read as it was written, in order, without the half of a line at the end', () => {
    const folder = temporaryFolder();
    const paths = ['a', 'b'].map((name) => join(folder, name));
    for (const [index, path] of paths.entries()) {
      const recorder = new Recorder(path, `w${index}`);
      for (const atUs of [1, 3]) recorder.write({ is: 'held', call: '\n"\u2028' }, atUs + index);
      recorder.close();
    }
    writeFileSync(paths[0] as string, '{"is":"held","ca', { flag: 'a' });
    const entries = readHistory(paths);
    expect(entries.map(({ worker, atUs }) => `${worker} ${atUs}`)).toEqual([
      'w0 1',
      'w1 2',
      'w0 3',
      'w1 4',
    ]);
    removeFolder(folder);
  });

  test('whatever else is in a line, it is said which', () => {
    const folder = temporaryFolder();
    const path = join(folder, 'history');
    const line = fc.oneof(
      fc.string({ unit: 'binary' }),
      fc.json(),
      fc.record({ is: fc.anything(), worker: fc.anything(), atUs: fc.anything() }).map((one) => {
        try {
          return JSON.stringify(one);
        } catch {
          return '';
        }
      }),
    );
    fc.assert(
      fc.property(line, (text) => {
        writeFileSync(path, `${text.replaceAll('\n', ' ')}\n`);
        let entries: readonly Entry[] = [];
        try {
          entries = readHistory([path]);
        } catch (error) {
          expect(error).toBeInstanceOf(UnreadableHistoryError);
          expect((error as Error).message).toContain(`${path}:1 `);
        }
        for (const entry of entries) {
          expect([typeof entry.is, typeof entry.worker]).toEqual(['string', 'string']);
        }
      }),
    );
    removeFolder(folder);
  });
});
