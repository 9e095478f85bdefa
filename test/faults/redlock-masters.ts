/**
 * Independent masters that keep nothing over a restart, each behind a proxy, and managers that lock on them.
 */
import { type LeaseStore, LockManager, type LockManagerOptions } from 'leasehold';
import { type RedlockOptions, redlock } from 'leasehold/redlock';
import { TcpProxy } from '../servers/proxy.ts';
import { RedisServer } from '../servers/redis.ts';

/** Short, so that what is lost is found soon; long enough for a machine that is busy. */
export const TTL_MS = 1_000;
const REQUEST_TIMEOUT_MS = 300;
const FORGETFUL = ['--appendonly', 'no'];

export class Masters {
  readonly servers: readonly RedisServer[];
  readonly proxies: readonly TcpProxy[];
  readonly #managers: LockManager[] = [];

  private constructor(servers: readonly RedisServer[], proxies: readonly TcpProxy[]) {
    this.servers = servers;
    this.proxies = proxies;
  }

  static async start(
    count: number,
    environmentOf?: (index: number) => Record<string, string>,
  ): Promise<Masters> {
    const indices = Array.from({ length: count }, (_, index) => index);
    const servers = await Promise.all(
      indices.map((index) => RedisServer.start(FORGETFUL, 0, () => environmentOf?.(index) ?? {})),
    );
    const proxies = await Promise.all(servers.map(({ port }) => TcpProxy.start(port)));
    return new Masters(servers, proxies);
  }

  /** Through these proxies, which are those of all managers unless others are given. */
  urls(proxies: readonly TcpProxy[] = this.proxies): string[] {
    return proxies.map(({ port }) => `redis://127.0.0.1:${port}`);
  }

  store(options: RedlockOptions = {}, urls: readonly string[] = this.urls()): LeaseStore {
    return redlock(urls, {
      requestTimeoutMs: REQUEST_TIMEOUT_MS,
      maxTtlMs: TTL_MS,
      ...options,
    });
  }

  manager(options: Partial<LockManagerOptions> = {}): LockManager {
    const locks = new LockManager({ ttlMs: TTL_MS, store: this.store(), ...options });
    this.#managers.push(locks);
    return locks;
  }

  managers(count: number, options: Partial<LockManagerOptions> = {}): LockManager[] {
    return Array.from({ length: count }, () => this.manager(options));
  }

  /** Ends the managers, and every fault of the network. */
  async settle(): Promise<void> {
    for (const server of this.servers) server.resume();
    for (const proxy of this.proxies) proxy.forward();
    await this.closeManagers();
  }

  async closeManagers(): Promise<void> {
    await Promise.all(this.#managers.splice(0).map((locks) => locks.close()));
  }

  async close(): Promise<void> {
    await this.settle();
    await Promise.all(this.proxies.map((proxy) => proxy.close()));
    await Promise.all(this.servers.map((server) => server.close()));
  }
}
