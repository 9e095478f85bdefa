/**
 * Registers the suite for worlds of the Redis store. Topologies have a file each, so that they run side by side.
 */
import { afterAll } from 'vitest';
import { lane, TOOLS } from '../servers/require.ts';
import { redisFixtures } from './fixtures/redis.ts';
import { registerSuite } from './register.ts';

/** All fixtures of which the name begins like that; there has to be one. */
export function registerRedis(topology: string): void {
  const fixtures = redisFixtures.filter(({ fixture }) => fixture.name.startsWith(topology));
  if (fixtures.length === 0) throw new Error(`no fixture is named ${topology}…`);
  lane(`conformance of ${topology}`, TOOLS.redis, () => {
    // Clients of the same servers take turns with them.
    for (const { endShared } of fixtures) afterAll(endShared);
    for (const { fixture } of fixtures) registerSuite(fixture, { but: [] });
  });
}
