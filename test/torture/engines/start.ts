/** The servers that several engines start alike. */
import { RedisServer } from '../../servers/redis.ts';
import { clockEnvironment, clockFileOf, setClock } from '../clock.ts';
import { redisValues } from '../values/redis.ts';
import type { Values } from '../values/values.ts';
import type { EngineServer } from './engine.ts';
import { breakable } from './redis-server.ts';

export interface ValuesServer {
  readonly server: RedisServer;
  readonly breakable: EngineServer;
  readonly onlooker: Values;
  close(): Promise<void>;
}

/** The server of the values: it may be stopped, killed and cut off, and keeps what it has. */
export async function startValues(): Promise<ValuesServer> {
  const server = await RedisServer.start();
  const onlooker = redisValues(server.port);
  return {
    server,
    breakable: breakable(server, 'values', { forget: false, clock: false }),
    onlooker,
    async close() {
      await onlooker.close();
      await server.close();
    },
  };
}

/** A server whose clock can be set, when there is something to set it with. */
export function startWithClock(faketime: string | null): Promise<RedisServer> {
  if (faketime === null) return RedisServer.start();
  return RedisServer.start([], 0, (folder) => {
    setClock(clockFileOf(folder), 0);
    return clockEnvironment(faketime, clockFileOf(folder));
  });
}
