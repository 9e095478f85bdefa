/**
 * Registers every case of the suite for the Redlock store on five masters. A case that does not apply says why.
 */
import { afterAll } from 'vitest';
import { lane, TOOLS } from '../servers/require.ts';
import { onFive } from './fixtures/redlock.ts';
import { registerSuite } from './register.ts';

lane('conformance of Redlock on five masters', TOOLS.redis, () => {
  afterAll(onFive.endShared);
  registerSuite(onFive.fixture, { but: [] });
});
