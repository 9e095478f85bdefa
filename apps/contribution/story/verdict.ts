/** Whether the totals are right: every account to the last cent. */
import type { Total } from '../contribution.ts';

export interface Verdict {
  readonly exact: boolean;
  readonly messages: number;
  readonly expectedCents: bigint;
  readonly actualCents: bigint;
  readonly accounts: number;
  readonly wrongAccounts: number;
  /** Contributions that are in no total; less than 0 when some are in twice. */
  readonly lost: number;
}

/** Account by account, since a sum could be right by two errors that cancel each other out. */
export function judge(
  expected: ReadonlyMap<string, Total>,
  actual: ReadonlyMap<string, Total>,
): Verdict {
  const accounts = new Set([...expected.keys(), ...actual.keys()]);
  let wrongAccounts = 0;
  for (const account of accounts) {
    const want = expected.get(account);
    const have = actual.get(account);
    if (want?.cents !== have?.cents || want?.contributions !== have?.contributions) {
      wrongAccounts += 1;
    }
  }
  const want = sum(expected);
  const have = sum(actual);
  return {
    exact: wrongAccounts === 0,
    messages: want.contributions,
    expectedCents: want.cents,
    actualCents: have.cents,
    accounts: accounts.size,
    wrongAccounts,
    lost: want.contributions - have.contributions,
  };
}

export function sum(totals: ReadonlyMap<string, Total>): Total {
  let cents = 0n;
  let contributions = 0;
  for (const total of totals.values()) {
    cents += total.cents;
    contributions += total.contributions;
  }
  return { cents, contributions };
}

/** Only decisive rows count: what goes wrong without a lock that all instances share is the point of the story. */
export function exitCodeOf(
  rows: readonly { readonly way: { readonly decisive?: true }; readonly verdict: Verdict }[],
): number {
  return rows.every(({ way, verdict }) => !way.decisive || verdict.exact) ? 0 : 1;
}
