/**
 * Looks whether a server can carry locks before the first one is taken: scripts, rights, cluster or not, eviction.
 */
import type { RedisClient } from './clients/client.ts';
import type { Layout } from './layout.ts';
import { LOCATE } from './scripts/locate.ts';
import { PROBE } from './scripts/probe.ts';
import { within } from './within.ts';

/** The server will refuse every lock until somebody changes its settings or the call. */
export class MisconfiguredError extends Error {
  constructor(message: string, cause?: unknown) {
    super(message, { cause });
    this.name = 'MisconfiguredError';
  }
}

const NO_RIGHT = /NOPERM|no permissions|can't run|can't access/;

/** Rejects with `MisconfiguredError` for what a person must mend, with the client's error for what may pass. */
export async function probe(
  client: RedisClient,
  layout: Layout,
  nonce: string,
  timeoutMs: number,
  needsWait = false,
): Promise<void> {
  const key = `leasehold-probe-${nonce}`;
  const slot = layout.slotOf(key);
  const { lock, members, order } = layout.namesOf(key, slot);
  const keys = [lock, `${members}:epoch`, members, order];
  const pubsub = layout.isCluster ? ['SHARDNUMSUB', 'SPUBLISH'] : ['NUMSUB', 'PUBLISH'];
  let failures: string[];
  try {
    const args = [layout.channelOf(slot), ...pubsub];
    failures = (await within(client.evaluate(PROBE, keys, args), timeoutMs, 'a probe')) as string[];
    // Another store's probe may have left its script there; those of this one need not be there yet.
    await within(client.command(['EVAL', LOCATE.lua, '0']), timeoutMs, 'a probe');
  } catch (cause) {
    throw explain(cause, 'EVALSHA and EVAL (+evalsha +eval)');
  }
  for (let index = 0; index < failures.length; index += 2) {
    const [command, message] = failures.slice(index, index + 2) as [string, string];
    if (NO_RIGHT.test(message)) {
      throw explain(new Error(message), `${command} (+${command.toLowerCase()}) from a script`);
    }
  }
  if (!needsWait) return;
  try {
    await within(client.command(['WAIT', '0', '1']), timeoutMs, 'a probe');
  } catch (cause) {
    throw explain(cause, 'WAIT (+wait), which minReplicas needs,');
  }
}

/** A right that is missing, or the wrong kind of client, is nothing that passes. Anything else comes back as it is. */
export function explain(cause: unknown, what: string): unknown {
  if (cause instanceof MisconfiguredError) return cause;
  const message = cause instanceof Error ? cause.message : String(cause);
  if (NO_RIGHT.test(message)) {
    return new MisconfiguredError(
      `the Redis user may not use ${what} on the lock's keys and channels; ` +
        `grant it, with the keys ~<prefix>* and ~leasehold:* and the channels &leasehold:* (the server said: ${message})`,
      cause,
    );
  }
  if (/^(MOVED|ASK|CROSSSLOT) /.test(message)) {
    return new MisconfiguredError(
      'the server is part of a Redis Cluster, whose keys are spread over slots; give redis() a cluster client',
      cause,
    );
  }
  if (/unknown command.*ssubscribe/i.test(message)) {
    return new MisconfiguredError(
      'locks on a Redis Cluster need Redis 7, for sharded publish',
      cause,
    );
  }
  return cause;
}

/** Warns when the server may throw away what is kept there. A server that does not say is not asked again. */
export async function warnOfEviction(
  client: RedisClient,
  timeoutMs: number,
  what = 'locks',
): Promise<void> {
  let info: string;
  try {
    info = String(await within(client.command(['INFO', 'memory']), timeoutMs, 'INFO'));
  } catch {
    return;
  }
  const policy = /^maxmemory_policy:(\S+)/m.exec(info)?.[1];
  const hasLimit = !/^maxmemory:0\s*$/m.test(info);
  if (policy === undefined || policy === 'noeviction' || !hasLimit) return;
  process.emitWarning(
    `this Redis server may evict ${what} (maxmemory-policy ${policy}); use noeviction, or a server for ${what} alone`,
    { code: 'LEASEHOLD_EVICTION' },
  );
}
