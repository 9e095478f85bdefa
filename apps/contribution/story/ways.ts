/**
 * The ways of the story, simplest first: how many processes with how many tasks each, and what guards the total.
 */
import type { GuardKind } from '../worker-process.ts';

export interface Way {
  /** As `--only` names it. */
  readonly id: string;
  readonly title: string;
  /** `several`: as many as `--workers` says. */
  readonly instances: 'one' | 'several';
  /** Messages that one instance works on at a time. */
  readonly tasks: number;
  readonly guard: GuardKind;
  /** Works only on so many messages, because it is slow. */
  readonly prefix?: number;
  /** One instance is killed on the way, and the result decides the exit code. */
  readonly decisive?: true;
  /** Why the totals are right, when they are. */
  readonly right: string;
  /** Why they are wrong, when they are. */
  readonly wrong: string;
}

/** What a consumer commonly prefetches; more tasks only wait longer for the busiest account. */
const TASKS = 100;

const UNEXPECTED = 'this must not happen';

export const WAYS: readonly Way[] = [
  {
    id: 'serial',
    title: 'one at a time',
    instances: 'one',
    tasks: 1,
    guard: 'none',
    prefix: 2_000,
    right: 'nobody else is at work; every message waits for the commits of the one before it',
    wrong: UNEXPECTED,
  },
  {
    id: 'no-lock',
    title: 'concurrent, no lock',
    instances: 'one',
    tasks: TASKS,
    guard: 'none',
    right: 'right by luck, since no two tasks met on an account; nothing would have stopped them',
    wrong: 'tasks read the same total, each adds its own amount, and the last to write wins',
  },
  {
    id: 'process-lock',
    title: 'lock in process',
    instances: 'one',
    tasks: TASKS,
    guard: 'process',
    right:
      'the tasks of the one process take turns, which is all it needs as long as it stays alone',
    wrong: UNEXPECTED,
  },
  {
    id: 'process-locks',
    title: 'lock in process',
    instances: 'several',
    tasks: TASKS,
    guard: 'process',
    right: 'right by luck: every instance has a lock of its own, which stops no other instance',
    wrong: 'every instance has a lock of its own, so two of them still read the same total',
  },
  {
    id: 'leasehold',
    title: 'leasehold',
    instances: 'several',
    tasks: TASKS,
    guard: 'leasehold',
    decisive: true,
    right: 'one lock for all instances, and total, fence and message ids in one commit',
    wrong: UNEXPECTED,
  },
];
