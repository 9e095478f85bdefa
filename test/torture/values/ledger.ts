/** The ledger: a real broker that the postings go through, and a Redis server with the accounts. Both keep their data. */
import type { StateStore } from 'leasehold/consumer';
import { redisState } from 'leasehold/redis';
import { RabbitServer } from '../../servers/rabbitmq.ts';
import { RedisServer } from '../../servers/redis.ts';
import type { Place, Via } from '../engines/engine.ts';
import { breakable } from '../engines/redis-server.ts';
import { carefulClient } from './redis.ts';
import { FENCED, type Onlooker, PLAIN, type ValuesPlace } from './values.ts';

/** With a fence, and without one. */
export const QUEUES = ['fenced', 'plain'] as const;

export interface Ledger extends Onlooker {
  readonly brokerUrl: string;
  openState(): StateStore;
  setPlain(key: string, value: string): Promise<void>;
}

export const LEDGER_IS = 'on a Redis server of its own that keeps its data, behind RabbitMQ';

export async function startLedger(): Promise<ValuesPlace> {
  const [broker, server] = await Promise.all([RabbitServer.start(), RedisServer.start()]);
  const place = { brokerPort: broker.port, port: server.port };
  const onlooker = connectLedger(place, { [broker.port]: broker.port, [server.port]: server.port });
  return {
    place,
    servers: [
      breakable(server, { name: 'accounts' }),
      {
        name: 'broker',
        port: broker.port,
        pause: () => broker.pause(),
        resume: () => broker.resume(),
        kill: () => broker.kill(),
        stop: () => broker.stop(),
        startAgain: () => broker.startAgain(),
      },
    ],
    onlooker,
    async close() {
      await onlooker.close();
      await Promise.all([broker.close(), server.close()]);
    },
  };
}

export function connectLedger(place: Place, via: Via): Ledger {
  const port = via[place['port'] as number] as number;
  const client = carefulClient(port);
  const openState = (): StateStore =>
    redisState(`redis://127.0.0.1:${port}`, { prefix: FENCED, requestTimeoutMs: 500 });
  // For looks only.
  let state: Promise<StateStore> | null = null;
  const look = (): Promise<StateStore> => {
    state ??= opened(openState()).catch((error: unknown) => {
      state = null;
      throw error;
    });
    return state;
  };
  return {
    brokerUrl: `amqp://127.0.0.1:${via[place['brokerPort'] as number]}`,
    openState,
    peek: async (key) => (await look()).peek(key),
    getPlain: (key) => client.get(PLAIN + key),
    async setPlain(key, value) {
      await client.set(PLAIN + key, value);
    },
    async close() {
      client.disconnect();
      await (await state)?.close();
    },
  };
}

async function opened(state: StateStore): Promise<StateStore> {
  await state.open();
  return state;
}

/** The postings of an account, in the order in which they were entered. */
export function parseLedger(text: string | null): string[] {
  return text === null ? [] : (JSON.parse(text) as string[]);
}
