/** One Redis server, reached by a URL. */
import { Redis } from 'ioredis';
import { redis } from 'leasehold/redis';
import { redisValues } from '../values/redis.ts';
import type { EngineKind } from './engine.ts';
import { breakable, keysLeft } from './redis-server.ts';
import { startValues, startWithClock } from './start.ts';

export const redisEngine: EngineKind = {
  weakness: 'a forgetful server',
  keepsOrder: true,
  valuesAre: 'on a Redis server of their own that keeps its data',

  async start(faketime) {
    const server = await startWithClock(faketime);
    const values = await startValues();
    return {
      place: { port: server.port, valuesPort: values.server.port },
      servers: [
        breakable(server, 'redis', { forget: true, clock: faketime !== null }),
        values.breakable,
      ],
      values: values.onlooker,
      leftovers: () => keysLeft([server]),
      async close() {
        await server.close();
        await values.close();
      },
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

  makeValues: (place, via) => redisValues(via[place['valuesPort'] as number] as number),
};
