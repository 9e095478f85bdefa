/** Redis servers as a torture run breaks them, and what is left of locks on them. */
import { readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { RedisServer } from '../../servers/redis.ts';
import { clockEnvironment, clockFileOf, setClock } from '../clock.ts';
import type { EngineServer } from './engine.ts';

export interface Breakable {
  readonly name: string;
  readonly forgets?: boolean;
  readonly hasClock?: boolean;
  readonly cutOff?: EngineServer['cutOff'];
}

export function breakable(server: RedisServer, how: Breakable): EngineServer {
  const { name, forgets, hasClock, cutOff } = how;
  return {
    name,
    port: server.port,
    pause: () => server.pause(),
    resume: () => server.resume(),
    kill: () => server.kill(),
    stop: () => server.stop(),
    startAgain: () => server.startAgain(),
    ...(forgets && { forget: () => forget(server) }),
    ...(hasClock && {
      setClock: (seconds: number) => setClock(clockFileOf(server.folder), seconds),
    }),
    ...(cutOff && { cutOff }),
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

/** A member of a cluster stays one, without its keys. */
async function forget(server: RedisServer): Promise<void> {
  await server.kill();
  for (const name of readdirSync(server.folder)) {
    if (!name.endsWith('.conf')) rmSync(join(server.folder, name), { recursive: true });
  }
}

/** What stays for a day or longer: the last epochs, and the mark of a server that is known. */
const MEMORY = /^leasehold:(epoch|redlock)/;

/** Every key but that. */
export async function keysLeft(servers: readonly RedisServer[]): Promise<string[]> {
  const keys = await Promise.all(
    servers.map(async (server) => (await server.command('KEYS', '*')) as string[]),
  );
  return keys.flat().filter((key) => !MEMORY.test(key));
}
