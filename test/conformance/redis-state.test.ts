import { stateCases } from 'leasehold/testing';
import { lane, TOOLS } from '../servers/require.ts';
import { redisStateFixtures } from './fixtures/states.ts';
import { registerEngineSuite } from './register-engines.ts';

lane('states on Redis', TOOLS.redis, () => {
  for (const { fixture, endShared } of redisStateFixtures) {
    registerEngineSuite(fixture, stateCases, { but: ['restart'] }, endShared);
  }
});
