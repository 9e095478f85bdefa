/** One Redis server, reached by a URL. */
import { Redis } from 'ioredis';
import { redis } from 'leasehold/redis';
import { redisValues } from '../values/redis.ts';
import type { EngineKind } from './engine.ts';
import { breakable, keysLeft, startWithClock } from './redis-server.ts';

export const redisEngine: EngineKind = {
  weakness: 'a forgetful server',
  keepsOrder: true,
  hasLinks: false,
  values: redisValues,

  async start({ faketime }) {
    const server = await startWithClock(faketime);
    return {
      place: { port: server.port },
      servers: [breakable(server, { name: 'redis', forgets: true, hasClock: faketime !== null })],
      leftovers: () => keysLeft([server]),
      close: () => server.close(),
    };
  },

  makeStore(place, via) {
    const port = via[place['port'] as number];
    const store = redis(`redis://127.0.0.1:${port}`, { requestTimeoutMs: 400 });
    return { store, close: () => {} };
  },

  makeClient(place, via) {
    const client = new Redis(via[place['port'] as number] as number, '127.0.0.1', {
      socketTimeout: 500,
    });
    client.on('error', () => {});
    return client;
  },
};
