/**
 * What a case of the suite is, whether it applies to a store, and how one is run. Nothing here knows a test runner.
 */
import assert from 'node:assert/strict';
import type { Guarantees } from '../../core/store.ts';
import { type HookName, type StoreFixture, whyNot } from './fixture.ts';
import { Trial, turn } from './trial.ts';

/** What a case needs of a store's guarantees. */
export interface Need {
  readonly isMet: (guarantees: Guarantees) => boolean;
  /** Why a store that does not meet it is not asked to pass. */
  readonly otherwise: string;
}

export interface ConformanceCase {
  /** Unique, and a sentence that is true of every store that passes. */
  readonly name: string;
  readonly hooks?: readonly HookName[];
  readonly needs?: readonly Need[];
  run(trial: Trial): Promise<void>;
}

export interface RunOptions {
  /**
   * How long anything that must happen may take before the case fails, in milliseconds. Default 20,000: much longer
   * than any step takes on a busy machine.
   */
  readonly patienceMs?: number;
}

const DEFAULT_PATIENCE_MS = 20_000;

export const needs: Record<'arrivalOrder' | 'anyCapacity' | 'exclusiveOnly', Need> = {
  arrivalOrder: {
    isMet: (guarantees) => guarantees.order === 'arrival',
    otherwise: 'the store does not promise the order of arrival across processes',
  },
  anyCapacity: {
    isMet: (guarantees) => guarantees.capacities === 'any',
    otherwise: 'the store does exclusive locks only',
  },
  exclusiveOnly: {
    isMet: (guarantees) => guarantees.capacities === 'exclusive',
    otherwise: 'the store does every capacity',
  },
};

/** Why this case does not apply to that store, in a sentence; `null` when it does. */
export async function skipReason(
  one: ConformanceCase,
  fixture: StoreFixture,
): Promise<string | null> {
  for (const name of one.hooks ?? []) {
    const reason = whyNot(fixture.hooks[name]);
    if (reason !== null) return reason;
  }
  if (!one.needs?.length) return null;
  const guarantees = await guaranteesOf(fixture);
  return one.needs.find((need) => !need.isMet(guarantees))?.otherwise ?? null;
}

const known = new WeakMap<StoreFixture, Promise<Guarantees>>();

/** Asked once for each fixture: a world may be a server that has to be started. */
function guaranteesOf(fixture: StoreFixture): Promise<Guarantees> {
  let guarantees = known.get(fixture);
  if (guarantees === undefined) {
    guarantees = askGuarantees(fixture);
    known.set(fixture, guarantees);
  }
  return guarantees;
}

async function askGuarantees(fixture: StoreFixture): Promise<Guarantees> {
  const world = await fixture.makeWorld();
  try {
    return world.store().guarantees;
  } finally {
    await world.close();
  }
}

/** Rejects with an assertion that says what is wrong with the store, or with the core on top of it. */
export async function runCase(
  one: ConformanceCase,
  fixture: StoreFixture,
  { patienceMs = DEFAULT_PATIENCE_MS }: RunOptions = {},
): Promise<void> {
  const unhandled: unknown[] = [];
  const note = (reason: unknown): void => {
    unhandled.push(reason);
  };
  process.on('unhandledRejection', note);
  try {
    const trial = new Trial(fixture, await fixture.makeWorld(), patienceMs);
    try {
      await one.run(trial);
    } finally {
      await trial.close();
    }
    // Rejections count as unhandled only after the turn in which they happened.
    await turn();
    await turn();
  } finally {
    process.off('unhandledRejection', note);
  }
  assert.deepEqual(unhandled, [], 'a promise was rejected and nobody handled it');
}
