import { outboxCases } from 'leasehold/testing';
import { lane, TOOLS } from '../servers/require.ts';
import { redisOutboxFixtures } from './fixtures/outboxes.ts';
import { registerEngineSuite } from './register-engines.ts';

lane('outboxes on Redis', TOOLS.redis, () => {
  for (const { fixture, endShared } of redisOutboxFixtures) {
    registerEngineSuite(fixture, outboxCases, { but: ['restart'] }, endShared);
  }
});
