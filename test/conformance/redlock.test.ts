/**
 * Registers every case of the suite for the Redlock store on three masters. A case that does not apply says why.
 */
import { afterAll } from 'vitest';
import { lane, TOOLS } from '../servers/require.ts';
import { onThree } from './fixtures/redlock.ts';
import { registerSuite } from './register.ts';

lane('conformance of Redlock on three masters', TOOLS.redis, () => {
  afterAll(onThree.endShared);
  registerSuite(onThree.fixture, { but: ['restart'] });
});
