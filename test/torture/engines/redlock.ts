/** Five independent Redis masters, reached by their URLs; each may lose its data and its clock. */
import { redlock } from 'leasehold/redlock';
import { redisValues } from '../values/redis.ts';
import type { EngineKind } from './engine.ts';
import { breakable, keysLeft, startWithClock } from './redis-server.ts';

const MASTERS = 5;
/** A node that has lost its data abstains for so long. */
const MAX_TTL_MS = 2_000;

export const redlockEngine: EngineKind = {
  weakness: 'none',
  keepsOrder: false,
  hasLinks: false,
  values: redisValues,

  async start({ faketime }) {
    const servers = await Promise.all(
      Array.from({ length: MASTERS }, () => startWithClock(faketime)),
    );
    return {
      place: { ports: servers.map(({ port }) => port) },
      servers: servers.map((server, index) =>
        breakable(server, { name: `master ${index}`, forgets: true, hasClock: faketime !== null }),
      ),
      leftovers: () => keysLeft(servers),
      async close() {
        await Promise.all(servers.map((server) => server.close()));
      },
    };
  },

  makeStore(place, via) {
    const urls = (place['ports'] as number[]).map((port) => `redis://127.0.0.1:${via[port]}`);
    const store = redlock(urls, { requestTimeoutMs: 400, maxTtlMs: MAX_TTL_MS });
    return { store, close: () => {} };
  },
};
