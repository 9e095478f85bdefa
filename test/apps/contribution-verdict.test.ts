import { describe, expect, it } from 'vitest';
import { exitCodeOf, judge } from '../../dist/apps/contribution/story/verdict.js';
import { WAYS } from '../../dist/apps/contribution/story/ways.js';

describe('the verdict', () => {
  const right = new Map([
    ['a', { cents: 10n, contributions: 2 }],
    ['b', { cents: 5n, contributions: 1 }],
  ]);

  it('is exact only when every account is', () => {
    expect(judge(right, new Map(right)).exact).toBe(true);
    const none = judge(new Map(), new Map());
    expect(none).toMatchObject({ exact: true, messages: 0, accounts: 0 });
  });

  it('sees errors that cancel each other out in the sum', () => {
    const swapped = new Map([
      ['a', { cents: 9n, contributions: 2 }],
      ['b', { cents: 6n, contributions: 1 }],
    ]);
    const verdict = judge(right, swapped);
    expect(verdict).toMatchObject({ exact: false, wrongAccounts: 2, lost: 0 });
    expect(verdict.actualCents).toBe(verdict.expectedCents);
  });

  it('counts lost and doubled contributions, missing accounts and unknown ones', () => {
    const actual = new Map([
      ['a', { cents: 15n, contributions: 4 }],
      ['c', { cents: 0n, contributions: 0 }],
    ]);
    expect(judge(right, actual)).toMatchObject({ accounts: 3, wrongAccounts: 3, lost: -1 });
  });

  it('fails the run for a wrong total with Leasehold, and for no other way', () => {
    const exact = judge(right, new Map(right));
    const wrong = judge(right, new Map());
    const rows = (verdictOf: (decisive: boolean) => typeof exact) =>
      WAYS.map((way) => ({ way, verdict: verdictOf(way.decisive === true) }));
    expect(exitCodeOf(rows(() => exact))).toBe(0);
    expect(exitCodeOf(rows((decisive) => (decisive ? exact : wrong)))).toBe(0);
    expect(exitCodeOf(rows((decisive) => (decisive ? wrong : exact)))).toBe(1);
    expect(WAYS.filter((way) => way.decisive).map((way) => way.guard)).toEqual(['leasehold']);
  });
});
