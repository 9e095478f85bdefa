/** One Redis server as a torture run breaks it, and what is left of locks on it. */
import { readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import type { RedisServer } from '../../servers/redis.ts';
import { clockFileOf, setClock } from '../clock.ts';
import type { EngineServer } from './engine.ts';

export function breakable(
  server: RedisServer,
  name: string,
  may: { readonly forget: boolean; readonly clock: boolean },
): EngineServer {
  return {
    name,
    port: server.port,
    pause: () => server.pause(),
    resume: () => server.resume(),
    kill: () => server.kill(),
    stop: () => server.stop(),
    startAgain: () => server.startAgain(),
    ...(may.forget && { forget: () => forget(server.folder) }),
    ...(may.clock && {
      setClock: (seconds: number) => setClock(clockFileOf(server.folder), seconds),
    }),
  };
}

/** A member of a cluster stays one, without its keys. */
function forget(folder: string): void {
  for (const name of readdirSync(folder)) {
    if (!name.endsWith('.conf')) rmSync(join(folder, name), { recursive: true });
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
