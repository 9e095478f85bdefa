/**
 * A master with two replicas behind three Sentinels, reached by a client of ioredis that is handed in: with grants that
 * the master makes alone, and with grants that a replica must have.
 */
import { Redis } from 'ioredis';
import { redis } from 'leasehold/redis';
import { SentinelGroup } from '../../servers/redis.ts';
import { redisValues } from '../values/redis.ts';
import type { EngineKind, Place, Via } from './engine.ts';
import { natMap } from './nat-map.ts';
import { Links } from './own-network.ts';
import { breakable, keysLeft } from './redis-server.ts';

export const sentinelEngine: EngineKind = engineWith(0);
export const replicatedEngine: EngineKind = engineWith(1);

function engineWith(minReplicas: number): EngineKind {
  return {
    weakness: 'a server that is down',
    keepsOrder: true,
    hasLinks: true,
    values: redisValues,

    async start({ hasOwnNetwork }) {
      const links = hasOwnNetwork ? new Links() : null;
      const group = await SentinelGroup.start(links ? { more: links.sourceOf } : {});
      const { sentinels, name } = group;
      return {
        place: { sentinels, name },
        servers: group.servers.map((server, index) =>
          breakable(server, {
            name: `server ${index}`,
            forgets: true,
            ...(links && { cutOff: (way) => links.cutOff(index, [server.port], way) }),
          }),
        ),
        leftovers: async () => keysLeft([await group.master()]),
        close: () => group.close(),
      };
    },

    makeStore(place, via) {
      const client = makeClient(place, via);
      const store = redis(client, { requestTimeoutMs: 400, minReplicas, replicaTimeoutMs: 300 });
      return { store, close: () => client.disconnect() };
    },

    makeClient,
  };
}

function makeClient(place: Place, via: Via): Redis {
  const client = new Redis({
    sentinels: place['sentinels'] as { host: string; port: number }[],
    name: place['name'] as string,
    natMap: natMap(via),
    socketTimeout: 500,
  });
  client.on('error', () => {});
  return client;
}
