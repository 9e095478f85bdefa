/** What may come out of the package, whatever was put in. */
import { LeaseholdError } from 'leasehold';
import { afterAll, beforeAll, expect } from 'vitest';

/** The error that a call threw or rejected with; `null` when it went well. Anything but a typed error fails. */
export async function typedErrorOf(call: () => unknown): Promise<LeaseholdError | null> {
  try {
    await call();
    return null;
  } catch (error) {
    if (error instanceof LeaseholdError) {
      expect(error.code).toMatch(/^[A-Z_]+$/);
      expect(error.message).not.toBe('');
      return error;
    }
    throw error;
  }
}

/** Fails when, during the tests of a file, something was thrown where nobody could catch it. */
export function nothingEscapes(): void {
  const escaped: unknown[] = [];
  const note = (error: unknown): void => {
    escaped.push(error);
  };
  beforeAll(() => {
    process.on('unhandledRejection', note);
    process.on('uncaughtException', note);
  });
  afterAll(async () => {
    await new Promise((resolve) => setImmediate(resolve));
    process.off('unhandledRejection', note);
    process.off('uncaughtException', note);
    expect(escaped).toEqual([]);
  });
}
