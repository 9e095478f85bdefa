/**
 * Values on a Redis server of their own, which writes each to its disk before it answers, and may be stopped, killed and
 * cut off, but never loses its data: what a fence protects must not be lost with the locks.
 */
import { Redis } from 'ioredis';
import type { Lease } from 'leasehold';
import { fenced } from 'leasehold/redis';
import { RedisServer } from '../../servers/redis.ts';
import { breakable } from '../engines/redis-server.ts';
import { FENCED, PLAIN, type Values, type ValuesKind } from './values.ts';

const REQUEST_TIMEOUT_MS = 500;

export const redisValues: ValuesKind = {
  are: 'on a Redis server of their own that keeps its data',

  async start() {
    const server = await RedisServer.start();
    const onlooker = valuesOn(server.port);
    return {
      place: { port: server.port },
      servers: [breakable(server, { name: 'values' })],
      onlooker,
      async close() {
        await onlooker.close();
        await server.close();
      },
    };
  },

  connect: (place, via) => valuesOn(via[place['port'] as number] as number),
};

/** A command that was not answered is not made again behind the back of whoever writes the history. */
export function carefulClient(port: number): Redis {
  const client = new Redis(port, '127.0.0.1', {
    autoResendUnfulfilledCommands: false,
    enableOfflineQueue: false,
    maxRetriesPerRequest: 0,
    retryStrategy: () => 50,
    socketTimeout: REQUEST_TIMEOUT_MS,
  });
  client.on('error', () => {});
  return client;
}

function valuesOn(port: number): Values {
  const client = carefulClient(port);
  const fence = fenced(client, { requestTimeoutMs: REQUEST_TIMEOUT_MS });
  return {
    async getFenced(key: string, lease: Lease) {
      return (await fence.get(FENCED + key, lease)).value;
    },
    async setFenced(key: string, value: string, lease: Lease) {
      await fence.set(FENCED + key, value, lease);
    },
    getPlain: (key) => client.get(PLAIN + key),
    async setPlain(key, value) {
      await client.set(PLAIN + key, value);
    },
    peek: (key) => client.hget(FENCED + key, 'v'),
    async close() {
      client.disconnect();
    },
  };
}
