/**
 * From what the caller has, a URL or a client of any family, to a `RedisClient`.
 */
import { InvalidArgumentError } from '../../core/errors.ts';
import type { RedisClient } from './client.ts';
import {
  type IoredisCluster,
  IoredisClusterClient,
  type IoredisConnection,
  IoredisSingle,
  isNoMaster,
} from './ioredis.ts';
import {
  type NodeRedisCluster,
  NodeRedisClusterClient,
  type NodeRedisConnection,
  NodeRedisSingle,
} from './node-redis.ts';

/**
 * A client of ioredis (`Redis`, with or without Sentinel, or `Cluster`) or of node-redis (`createClient`,
 * `createCluster`), by the few members that tell them apart.
 */
export type AnyRedisClient =
  | { evalsha(...args: never[]): unknown; duplicate(...args: never[]): unknown }
  | { sendCommand(...args: never[]): unknown; duplicate(...args: never[]): unknown };

/**
 * Commands of a client of ours fail at once while it has no connection, and are never sent twice. What a server that
 * loads its data answers is a better reason than silence, so it is not waited for. A server that has become a replica is
 * left: the address may lead to the new master.
 */
const OWN_OPTIONS = {
  lazyConnect: true,
  enableReadyCheck: false,
  reconnectOnError: isNoMaster,
  enableOfflineQueue: false,
  autoResendUnfulfilledCommands: false,
  maxRetriesPerRequest: 0,
  retryStrategy: (times: number) =>
    Math.min(1_000, 25 * 2 ** Math.min(times, 6)) * (0.5 + Math.random() / 2),
} as const;

const MAX_PORT = 65_535;
const SENTINEL_PROTOCOL = /^redis(s?)\+sentinel:/;

interface Ioredis {
  readonly Redis: new (...args: unknown[]) => IoredisConnection;
  readonly Cluster: new (...args: unknown[]) => IoredisCluster;
}

/** Recognises a client. Throws `InvalidArgumentError` when it is none, or one whose settings hide the real keys. */
export function adapt(client: unknown): RedisClient {
  const one = client as Record<string, unknown> | null;
  if (typeof one !== 'object' || one === null) throw notAClient();
  const { keyPrefix } = (one['options'] ?? one['_options'] ?? {}) as { keyPrefix?: unknown };
  if (typeof keyPrefix === 'string' && keyPrefix !== '') {
    throw new InvalidArgumentError(
      `the client has the keyPrefix '${keyPrefix}': give a client without one, and redis(client, { prefix })`,
    );
  }
  if (typeof one['evalsha'] === 'function') {
    return one['isCluster'] === true
      ? new IoredisClusterClient(client as IoredisCluster, false)
      : new IoredisSingle(client as IoredisConnection, false);
  }
  if (typeof one['sendCommand'] === 'function') {
    if (typeof one['nodeClient'] === 'function') {
      return new NodeRedisClusterClient(client as NodeRedisCluster);
    }
    if (typeof one['sSubscribe'] === 'function') {
      return new NodeRedisSingle(client as NodeRedisConnection);
    }
  }
  throw notAClient();
}

/** Checked at once, used when the store opens. */
export function checkUrl(url: string): void {
  if (SENTINEL_PROTOCOL.test(url)) {
    readSentinelUrl(url);
    return;
  }
  if (!/^rediss?:\/\//.test(url)) {
    throw new InvalidArgumentError(
      'a Redis URL begins with redis://, rediss://, redis+sentinel:// or rediss+sentinel://',
    );
  }
  // No error may repeat the URL, or be caused by one that does: there is a password in it.
  if (!URL.canParse(url)) {
    throw new InvalidArgumentError('a Redis URL is redis://[user:password@]host[:port][/database]');
  }
  const { username, password } = new URL(url);
  for (const part of [username, password]) decode(part);
}

function decode(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    throw new InvalidArgumentError(
      'a Redis URL has a % that begins no character: write a % of its own as %25',
    );
  }
}

/** Makes a client for the URL, with ioredis. */
export async function clientFor(url: string, timeoutMs: number): Promise<RedisClient> {
  const { Redis } = await loadIoredis();
  // A server that hangs keeps its connections; without this, nobody would ask who is the master now.
  const options = { ...OWN_OPTIONS, socketTimeout: timeoutMs };
  const client = SENTINEL_PROTOCOL.test(url)
    ? new Redis({ ...options, ...readSentinelUrl(url) })
    : new Redis(url, options);
  return new IoredisSingle(client, true);
}

/** Makes a client for the cluster that the URL's server is a part of. */
export async function clusterClientFor(url: string, timeoutMs: number): Promise<RedisClient> {
  const { Cluster } = await loadIoredis();
  const { protocol, hostname, port, username, password } = new URL(url);
  const redisOptions = {
    socketTimeout: timeoutMs,
    ...(username && { username: decodeURIComponent(username) }),
    ...(password && { password: decodeURIComponent(password) }),
    ...(protocol === 'rediss:' && { tls: {} }),
  };
  const seed = { host: hostname.replace(/^\[|\]$/g, ''), port: Number(port || 6_379) };
  const client = new Cluster([seed], {
    lazyConnect: true,
    enableOfflineQueue: false,
    redisOptions,
    // How long a node has to say who serves which slot: a second, if it is left to the client.
    slotsRefreshTimeout: timeoutMs,
    clusterRetryStrategy: () => null,
  });
  return new IoredisClusterClient(client, true);
}

async function loadIoredis(): Promise<Ioredis> {
  try {
    return (await import('ioredis')) as unknown as Ioredis;
  } catch (cause) {
    throw new Error('leasehold/redis needs a client for a URL: npm i ioredis', { cause });
  }
}

/** `redis+sentinel://[user:password@]host:port,host:port/master-name[/database]` */
function readSentinelUrl(url: string): object {
  const parts = /^rediss?\+sentinel:\/\/(?:([^@/]*)@)?([^/?#]+)\/([^/?#]+)(?:\/(\d+))?$/.exec(url);
  if (!parts) {
    throw new InvalidArgumentError(
      'a Sentinel URL is redis+sentinel://[user:password@]host:port,host:port/master-name[/database]',
    );
  }
  const [, login = '', hosts = '', name = '', database = '0'] = parts;
  const [, username = '', password = ''] = (/^([^:]*):?(.*)$/.exec(login) ?? []).map(decode);
  const tls = url.startsWith('rediss');
  return {
    sentinels: hosts.split(',').map((host) => {
      const [, address = '', port = '26379'] = /^(.*?)(?::(\d+))?$/.exec(host) ?? [];
      if (address === '' || Number(port) < 1 || Number(port) > MAX_PORT) {
        throw new InvalidArgumentError(
          `the Sentinels of a URL are host:port,host:port, with ports from 1 to ${MAX_PORT}`,
        );
      }
      return { host: address, port: Number(port) };
    }),
    name: decode(name),
    db: Number(database),
    ...(username && { username }),
    ...(password && { password }),
    ...(tls && { tls: {}, enableTLSForSentinelMode: true }),
  };
}

function notAClient(): InvalidArgumentError {
  return new InvalidArgumentError(
    'redis() needs a URL, or a client of ioredis or node-redis (a Redis, a Cluster, createClient(), createCluster())',
  );
}
