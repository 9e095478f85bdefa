/**
 * What the commands that look at Redis have in common: their options, the client, and errors that say what to do.
 */
import { InvalidArgumentError } from '../core/errors.ts';
import { checkUrl, clientFor, clusterClientFor } from '../redis/clients/connect.ts';
import { LockInspector } from '../redis/inspector.ts';
import { readOptions } from '../redis/options.ts';
import { within } from '../redis/within.ts';
import { type Call, UsageError } from './command.ts';

const REQUEST_TIMEOUT_MS = 5_000;

export const REDIS_USAGE = '--redis URL [--prefix P] [--cluster] [--json]';

export const REDIS_OPTIONS = {
  redis: { type: 'string' },
  prefix: { type: 'string' },
  cluster: { type: 'boolean' },
  json: { type: 'boolean' },
} as const;

/** Opens what the options say, and closes it whatever happens. */
export async function withLocks(
  { options }: Call,
  work: (locks: LockInspector) => Promise<void>,
): Promise<void> {
  const { redis: url, cluster = false } = options;
  if (typeof url !== 'string') {
    throw new UsageError('say where the locks are: --redis redis://user:password@host:6379/0');
  }
  const { prefix } = asUsage(() => {
    checkUrl(url);
    return readOptions(typeof options['prefix'] === 'string' ? { prefix: options['prefix'] } : {});
  });
  if (cluster && !/^rediss?:/.test(url)) {
    throw new UsageError('with --cluster, give the URL of any one node: redis:// or rediss://');
  }
  const make = cluster ? clusterClientFor : clientFor;
  const client = await make(url, REQUEST_TIMEOUT_MS);
  try {
    await within(client.connect(), REQUEST_TIMEOUT_MS, 'a new connection');
    const info = String(await client.command(['INFO', 'cluster']).catch(() => ''));
    if (!cluster && /^cluster_enabled:1/m.test(info)) throw isCluster();
    await work(new LockInspector(client, { prefix, requestTimeoutMs: REQUEST_TIMEOUT_MS }));
  } catch (cause) {
    throw explain(cause, cluster === true);
  } finally {
    await client.close();
  }
}

/** The one operand of a command: the name of a lock. */
export function nameOf({ operands }: Call): string {
  const [name, ...others] = operands;
  if (name === undefined || others.length > 0) {
    throw new UsageError('give one name: that of the lock, without the prefix');
  }
  return name;
}

function asUsage<T>(read: () => T): T {
  try {
    return read();
  } catch (error) {
    if (error instanceof InvalidArgumentError) throw new UsageError(error.message);
    throw error;
  }
}

function isCluster(cause?: unknown): UsageError {
  return new UsageError(
    'this server is part of a Redis Cluster, whose locks are spread over slots and nodes: ' +
      'add --cluster, and every node is asked',
    { cause },
  );
}

/** What the caller can do about it; anything else comes back as it is. */
function explain(cause: unknown, cluster: boolean): unknown {
  const message = cause instanceof Error ? cause.message : String(cause);
  if (/^(MOVED|ASK|CROSSSLOT) /.test(message) && !cluster) return isCluster(cause);
  if (/cluster support disabled|startup nodes|Failed to refresh slots cache/.test(message)) {
    return new Error(
      `no cluster was found there (${message}): leave --cluster out if this is a single server, ` +
        'or give the URL of a node that runs',
      { cause },
    );
  }
  if (/^(connect|getaddrinfo|All sentinels) /.test(message)) {
    return new Error(`no connection: ${message}; check the URL, and that the server runs`, {
      cause,
    });
  }
  if (/^(NOAUTH|WRONGPASS)/.test(message)) {
    return new Error(
      `the server does not know this user: put user and password into the URL, redis://user:password@host (${message})`,
      { cause },
    );
  }
  if (/^NOPERM|no permissions/.test(message)) {
    return new Error(
      `the user may not do this: it needs +scan +info +evalsha +eval and the rights that the store needs (${message})`,
      { cause },
    );
  }
  return cause;
}
