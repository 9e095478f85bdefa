/**
 * The suite asks of a store what its guarantees say, and no more.
 */
import { conformanceCases, skipReason } from 'leasehold/testing';
import { expect, test } from 'vitest';
import { memoryFixture } from './fixtures/memory.ts';
import { modest } from './modest-store.ts';
import { registerSuite } from './register.ts';

const fixture = memoryFixture('modest', modest);

registerSuite(fixture, { but: [] });

test('what only other stores promise is skipped, with its reason', async () => {
  const reasons = await Promise.all(conformanceCases.map((one) => skipReason(one, fixture)));
  expect(new Set(reasons)).toEqual(
    new Set([
      null,
      'a memory space lives inside one process',
      'the store does exclusive locks only',
      'the store does not promise the order of arrival across processes',
    ]),
  );
});
