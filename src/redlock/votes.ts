/**
 * What one node answers to a claim, read from the form that scripts/step.ts gives it.
 */
import { isWhole, numberOf, UnreadableAnswerError } from '../redis/answers.ts';

export type Vote =
  /** `isVouched`: it was known there already that the node votes. */
  | { readonly is: 'accepted'; readonly wanted: boolean; readonly isVouched: boolean }
  | {
      readonly is: 'busy';
      /** Until the lease ends by itself; -1 when another waiter looks at that. */
      readonly endsInMs: number;
      readonly ahead: number;
      readonly holder: string | null;
      readonly epoch: number;
      /** Nobody will tell when it is free: a client of another kind holds it, or one that was told has not come yet. */
      readonly isUntold: boolean;
      readonly isHeard: boolean;
    }
  /** The proposed epoch is not above the highest that the node has accepted. */
  | { readonly is: 'low'; readonly epoch: number }
  | { readonly is: 'data'; readonly what: string }
  | { readonly is: 'abstains'; readonly leftMs: number }
  /** The lease that was to be swapped is not on this node. */
  | { readonly is: 'absent' }
  | { readonly is: 'silent'; readonly cause: unknown };

/** By their numbers. */
const ACCEPTANCES: readonly Vote[] = [0, 1, 2, 3].map((number) => ({
  is: 'accepted',
  wanted: number % 2 === 1,
  isVouched: number < 2,
}));

/** What no script gives is no answer: it may have accepted, or not. */
export function readVote(answer: unknown): Vote {
  const vote = Array.isArray(answer) ? readRefusal(answer) : readAcceptance(answer);
  return vote ?? { is: 'silent', cause: new UnreadableAnswerError('a claim') };
}

function readAcceptance(answer: unknown): Vote | null {
  return ACCEPTANCES[numberOf(answer)] ?? null;
}

function readRefusal([kind, ...rest]: readonly unknown[]): Vote | null {
  const [first] = rest;
  switch (numberOf(kind)) {
    case 1:
      return readBusy(rest);
    case 2:
      return isWhole(first, 0) ? { is: 'low', epoch: Number(first) } : null;
    case 3:
      return typeof first === 'string' ? { is: 'data', what: first } : null;
    case 4:
      return isWhole(first, 0) ? { is: 'abstains', leftMs: Number(first) } : null;
    default:
      return null;
  }
}

function readBusy([
  endsInMs,
  ahead,
  holder,
  epoch,
  untold,
  heard,
]: readonly unknown[]): Vote | null {
  if (!isWhole(endsInMs, -1) || !isWhole(ahead, 0) || !isWhole(epoch, 0)) return null;
  return {
    is: 'busy',
    endsInMs: Number(endsInMs),
    ahead: Number(ahead),
    holder: typeof holder === 'string' ? holder : null,
    epoch: Number(epoch),
    isUntold: Number(untold) === 1,
    isHeard: Number(heard) === 1,
  };
}
