/**
 * The accounts of a ledger: whatever was posted for certain is in its account, once; nothing else is there, but what may
 * have been posted.
 */
import type { Entry } from '../history.ts';

export interface LedgerFindings {
  /** Postings that were acknowledged, and those of which nobody knows. */
  readonly posted: number;
  readonly unknown: number;
  /** Of those that must be in their account, the ones that are not. */
  readonly missing: readonly string[];
  readonly twice: readonly string[];
  /** In an account without having been posted to it. */
  readonly invented: readonly string[];
}

interface Posting {
  readonly message: string;
  readonly key: string;
  isPosted: boolean;
  isNoted: boolean;
}

/** `accounts` has the postings of each account at the end. */
export function judgeLedger(
  entries: readonly Entry[],
  isFenced: boolean,
  accounts: ReadonlyMap<string, readonly string[]>,
): LedgerFindings {
  const postings = postingsOf(entries, isFenced);
  const missing: string[] = [];
  for (const { message, key, isPosted, isNoted } of postings.values()) {
    // Without a fence a message is handled at some time: only what was written is certain to have been there.
    const isCertain = isFenced ? isPosted : isNoted;
    if (isCertain && !accounts.get(key)?.includes(message)) missing.push(`${key}: ${message}`);
  }
  const twice: string[] = [];
  const invented: string[] = [];
  for (const [key, messages] of accounts) {
    const seen = new Set<string>();
    for (const message of messages) {
      if (seen.has(message)) twice.push(`${key}: ${message}`);
      seen.add(message);
      if (postings.get(message)?.key !== key) invented.push(`${key}: ${message}`);
    }
  }
  const posted = [...postings.values()].filter((one) => one.isPosted).length;
  return { posted, unknown: postings.size - posted, missing, twice, invented };
}

function postingsOf(entries: readonly Entry[], isFenced: boolean): Map<string, Posting> {
  const postings = new Map<string, Posting>();
  for (const entry of entries) {
    if (entry.is === 'posts' && entry.isFenced === isFenced) {
      const { message, key } = entry;
      postings.set(message, { message, key, isPosted: false, isNoted: false });
    }
  }
  for (const entry of entries) {
    const posting = 'message' in entry ? postings.get(entry.message) : undefined;
    if (posting === undefined) continue;
    if (entry.is === 'posted') posting.isPosted = true;
    if (entry.is === 'noted') posting.isNoted = true;
  }
  return postings;
}

/** The accounts that were posted to. */
export function accountsOf(entries: readonly Entry[], isFenced: boolean): string[] {
  const keys = new Set<string>();
  for (const entry of entries) {
    if (entry.is === 'posts' && entry.isFenced === isFenced) keys.add(entry.key);
  }
  return [...keys];
}
