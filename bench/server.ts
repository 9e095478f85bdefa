/**
 * The Redis server of a workload, in memory alone, and what it says about itself.
 */
import type { Redis } from 'ioredis';
import { RedisServer } from '../test/servers/redis.ts';
import { connect } from './contenders.ts';

/** Durability would be measured with the disk, not with the locks; every contender has the same server. */
const IN_MEMORY = ['--appendonly', 'no'];

export interface Look {
  /** Microseconds of processor time. */
  readonly cpuUs: number;
}

export class BenchServer {
  readonly #server: RedisServer;
  readonly #admin: Redis;

  private constructor(server: RedisServer) {
    this.#server = server;
    this.#admin = connect(server.port);
  }

  static async start(): Promise<BenchServer> {
    return new BenchServer(await RedisServer.start(IN_MEMORY));
  }

  get port(): number {
    return this.#server.port;
  }

  get admin(): Redis {
    return this.#admin;
  }

  client(): Redis {
    return connect(this.port);
  }

  async look(): Promise<Look> {
    const info = await this.#admin.info();
    const read = (name: string): number =>
      Number(new RegExp(`^${name}:([\\d.]+)`, 'm').exec(info)?.[1]);
    return { cpuUs: (read('used_cpu_sys') + read('used_cpu_user')) * 1e6 };
  }

  async version(): Promise<string> {
    return /redis_version:(\S+)/.exec(await this.#admin.info('server'))?.[1] ?? 'unknown';
  }

  async close(): Promise<void> {
    this.#admin.disconnect();
    await this.#server.close();
  }
}

/** Runs with a server of its own, which is gone afterwards. */
export async function withServer<T>(use: (server: BenchServer) => Promise<T>): Promise<T> {
  const server = await BenchServer.start();
  try {
    return await use(server);
  } finally {
    await server.close();
  }
}
