import { conformanceCases, runCase, type StoreFixture, skipReason } from 'leasehold/testing';
import { describe, test } from 'vitest';

/**
 * Whether cases run at the same time, and which of them still run alone: those that need one of these hooks. It saves the
 * time in which they wait for expiries and processes; an unhandled rejection then fails all that run at that moment.
 */
export type Together = false | { readonly but: readonly string[] };

/** Cases that share two cores with others may have to wait for them. */
const PATIENCE_MS = 60_000;

interface Case {
  readonly name: string;
  readonly hooks?: readonly string[];
}

/** Registers cases. One that does not apply says why. */
export function registerCases<One extends Case>(
  cases: readonly One[],
  together: Together,
  parts: {
    readonly skipReason: (one: One) => Promise<string | null> | string | null;
    readonly run: (one: One, options: { readonly patienceMs?: number }) => Promise<void>;
  },
): void {
  const isAlone = ({ hooks = [] }: One): boolean =>
    together === false || hooks.some((hook) => together.but.includes(hook));
  const inTurn = cases.map((one) => ({ one, concurrent: !isAlone(one) }));
  // Those that run at the same time come first: each that runs alone waits for all that began before it.
  inTurn.sort((a, b) => Number(b.concurrent) - Number(a.concurrent));
  for (const { one, concurrent } of inTurn) {
    test(one.name, { concurrent }, async ({ skip }) => {
      const reason = await parts.skipReason(one);
      if (reason !== null) skip(reason);
      await parts.run(one, concurrent ? { patienceMs: PATIENCE_MS } : {});
    });
  }
}

/** Registers every case of the suite for one store. */
export function registerSuite(fixture: StoreFixture, together: Together): void {
  describe(`the ${fixture.name} store`, () => {
    registerCases(conformanceCases, together, {
      skipReason: (one) => skipReason(one, fixture),
      run: (one, options) => runCase(one, fixture, options),
    });
  });
}
