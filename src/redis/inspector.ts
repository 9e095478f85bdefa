/**
 * Looks at locks from outside, and takes one away: what people do, and the store never does.
 */
import { SHARED_CAPACITY } from '../core/store.ts';
import type { RedisClient } from './clients/client.ts';
import { Layout } from './layout.ts';
import { evaluateWithin } from './rights.ts';
import { BREAK } from './scripts/break.ts';
import { INSPECT } from './scripts/inspect.ts';
import type { Script } from './scripts/script.ts';
import { within } from './within.ts';

export interface HolderReport {
  readonly owner: string;
  /** When it was granted, by the server's clock; `null` for a client of another kind, which does not say. */
  readonly since: Date | null;
  /** When it ends unless it is renewed, by the server's clock. */
  readonly until: Date;
}

export interface WaiterReport {
  readonly owner: string;
  /** How many of the key's units it asks for. */
  readonly units: number;
}

export interface LockReport {
  readonly name: string;
  /** `foreign` is held by a client of another kind, of which no more is known; `free` may still have waiters. */
  readonly mode: 'exclusive' | 'shared' | 'permits' | 'foreign' | 'free';
  /** How many permits there are in all. */
  readonly limit: number | null;
  readonly holders: readonly HolderReport[];
  /** In order of arrival. */
  readonly waiters: readonly WaiterReport[];
}

export interface BreakReport {
  readonly name: string;
  /** The epoch that was minted: every later grant of the key has a higher one. */
  readonly epoch: string;
  /** The owners that it was taken from; none when it was free. */
  readonly broken: readonly string[];
  /** The waiter that has it now, when it is held by one alone. */
  readonly successor: string | null;
}

/** The key holds data: it is not listed, shown or broken. */
export class NotALockError extends Error {
  constructor(key: string, found: string) {
    super(
      `the Redis key '${key}' holds ${found}: that is data and not a lock, and it is left as it is; ` +
        'give the name of a lock without its prefix, and the prefix that its application uses',
    );
    this.name = 'NotALockError';
  }
}

const SHARED = 'leasehold:shared';
const RESERVED = 'leasehold:reserved';
/** Owner, epoch, capacity, ttl and channel, and whether it is marked: see scripts/key.ts. */
const HOLDER = /^(.*) (\d+) (\d+) \d+ leasehold:\S+(?: wanted)?$/s;
/** Kind, units, ttl, channel and, of a holder, its epoch. */
const RECORD = /^([wh]) (\d+) \d+ \S+ ?(\d*)$/;
const EPOCH_START_MS = Date.UTC(2020);
/** Keys that the server looks at before it does something else in between. */
const KEYS_A_PAGE = 500;

type Inspection = readonly [
  now: string,
  value: string | null | readonly [type: string],
  leftMs: number,
  members: readonly string[],
  order: readonly string[],
];

export class LockInspector {
  readonly #client: RedisClient;
  readonly #layout: Layout;
  readonly #timeoutMs: number;

  constructor(client: RedisClient, options: { prefix: string; requestTimeoutMs: number }) {
    this.#client = client;
    const { isCluster } = client;
    this.#layout = new Layout({ prefix: options.prefix, isCluster, nonce: 'inspector' });
    this.#timeoutMs = options.requestTimeoutMs;
  }

  /**
   * Every lock that is held, in no order. One that is taken or given back meanwhile may be missing. The server is asked
   * for a page at a time, so that it serves others in between.
   */
  async *list(): AsyncGenerator<LockReport> {
    const pattern = `${this.#layout.prefix.replace(/[\\*?[\]]/g, '\\$&')}*`;
    const seen = new Set<string>();
    for (const node of this.#client.nodes()) {
      let cursor = '0';
      do {
        const scan = ['SCAN', cursor, 'MATCH', pattern, 'COUNT', String(KEYS_A_PAGE)];
        const [next, keys] = (await this.#within(
          this.#client.command([...scan, 'TYPE', 'string'], node),
          'SCAN',
        )) as [string, string[]];
        cursor = next;
        // A scan may give a key twice.
        const fresh = keys.filter((key) => !seen.has(key));
        const reports = await Promise.all([...new Set(fresh)].map((key) => this.#reportOf(key)));
        for (const report of reports) {
          if (report === null || report.mode === 'free') continue;
          seen.add(this.#layout.prefix + report.name);
          yield report;
        }
      } while (cursor !== '0');
    }
  }

  /** Throws `NotALockError` when the key holds data. */
  async show(name: string): Promise<LockReport> {
    return readInspection(name, this.#layout.prefix, await this.#inspect(name));
  }

  /**
   * Takes the key from all who hold it. They learn that their leases are lost, and the next waiter has it. Throws
   * `NotALockError`, and changes nothing, when the key holds data.
   */
  async break(name: string): Promise<BreakReport> {
    const slot = this.#layout.slotOf(name);
    const { lock, members, order } = this.#layout.namesOf(name, slot);
    const keys = [this.#layout.epochKeyOf(slot), lock, members, order];
    const answer = (await this.#run(BREAK, keys, [this.#layout.channelOf(slot)])) as
      | [0, string]
      | [1, string, string[], string | null];
    if (answer[0] === 0) throw new NotALockError(lock, answer[1]);
    const [, epoch, broken, successor] = answer;
    return { name, epoch, broken, successor };
  }

  /** `null` for data, which may have a name like a lock's. */
  async #reportOf(lock: string): Promise<LockReport | null> {
    try {
      return await this.show(this.#layout.keyOf(lock));
    } catch (error) {
      if (error instanceof NotALockError) return null;
      throw error;
    }
  }

  async #inspect(name: string): Promise<Inspection> {
    const { lock, members, order } = this.#layout.namesOf(name, this.#layout.slotOf(name));
    return (await this.#run(INSPECT, [lock, members, order], [])) as Inspection;
  }

  #run(script: Script, keys: readonly string[], args: readonly string[]): Promise<unknown> {
    const timeoutMs = this.#timeoutMs;
    const what = `'${script.name}' of a lock`;
    return evaluateWithin(this.#client, { script, keys, args, timeoutMs, what });
  }

  #within<T>(promise: Promise<T>, what: string): Promise<T> {
    return within(promise, this.#timeoutMs, what);
  }
}

function readInspection(name: string, prefix: string, inspection: Inspection): LockReport {
  const [nowText, value, leftMs, members, order] = inspection;
  if (typeof value === 'object' && value !== null) {
    throw new NotALockError(prefix + name, `a value of type ${value[0]}`);
  }
  const nowMs = Number(nowText);
  const records = new Map(pairsOf(members));
  const scores = pairsOf(order);
  const waiters = scores.flatMap(([member]): WaiterReport[] => {
    const record = RECORD.exec(records.get(`=${member.slice(1)}`) ?? '');
    return member.startsWith('q') && record?.[1] === 'w'
      ? [{ owner: member.slice(1), units: Number(record[2]) }]
      : [];
  });
  const limitOf = (capacity: number): number | null =>
    capacity === SHARED_CAPACITY ? null : capacity;
  if (value === null || value === RESERVED) {
    return { name, mode: 'free', limit: null, holders: [], waiters };
  }
  if (value === SHARED) {
    const limit = limitOf(Number(records.get('c')));
    const holders = sharedHolders(records, new Map(scores), nowMs);
    return { name, mode: limit === null ? 'shared' : 'permits', limit, holders, waiters };
  }
  const until = new Date(nowMs + leftMs);
  const [, owner, epoch, capacity] = HOLDER.exec(value) ?? [];
  if (owner === undefined) {
    if (leftMs < 0) throw new NotALockError(prefix + name, 'a value without expiry');
    const holders = [{ owner: value, since: null, until }];
    return { name, mode: 'foreign', limit: null, holders, waiters };
  }
  const limit = limitOf(Number(capacity));
  const holders = [{ owner, since: momentOf(Number(epoch)), until }];
  return { name, mode: limit === null ? 'exclusive' : 'permits', limit, holders, waiters };
}

/** The oldest first. One whose time is over stays there until the next step of its key. */
function sharedHolders(
  records: ReadonlyMap<string, string>,
  scores: ReadonlyMap<string, string>,
  nowMs: number,
): HolderReport[] {
  const holders: [epoch: number, holder: HolderReport][] = [];
  for (const [field, text] of records) {
    const record = RECORD.exec(text);
    if (!field.startsWith('=') || record?.[1] !== 'h') continue;
    const owner = field.slice(1);
    const endMs = Number(scores.get(`d${owner}`));
    if (!(endMs > nowMs)) continue;
    const epoch = Number(record[3]);
    holders.push([epoch, { owner, since: momentOf(epoch), until: new Date(endMs) }]);
  }
  return holders.sort(([one], [other]) => one - other).map(([, holder]) => holder);
}

/** Epochs are microseconds since 2020, unless more grants than microseconds passed. */
function momentOf(epoch: number): Date {
  return new Date(EPOCH_START_MS + Math.floor(epoch / 1_000));
}

function pairsOf(flat: readonly string[]): [string, string][] {
  const pairs: [string, string][] = [];
  for (let index = 0; index < flat.length; index += 2) {
    pairs.push([String(flat[index]), String(flat[index + 1])]);
  }
  return pairs;
}
