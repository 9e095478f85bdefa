/**
 * The engine of the embedded store: the lease state of every key in LMDB, and steps on it in transactions.
 *
 * It runs on a thread of its own, which may block in a transaction while another process is in one; see
 * `docs/adr/0010-embedded-engine-on-a-thread.md`. Nobody's event loop waits for it.
 */
import {
  claimKey,
  dropKey,
  emptyKeyState,
  isEmpty,
  type KeyState,
  renewKey,
  type StepContext,
  settleKey,
} from '../core/key-state.ts';
import type { Claim, ClaimOutcome, DropOutcome, RenewOutcome, StoreEvent } from '../core/store.ts';
import { Environment } from './environment.ts';
import type { ExitGuard } from './exit-guard.ts';
import { type Answer, type Call, type EmbeddedKeyReport, KEYS_A_REPORT } from './protocol.ts';

/** Epochs are microseconds since then, so that they also increase over restarts of the machine. */
const EPOCH_START_MS = Date.UTC(2020, 0, 1);

/** Address space for the environment, in bytes; it takes what it needs on disk, and grows beyond when it must. */
const MAP_BYTES = 268_435_456;

/** A new key's record lets the engine look at two others, some tens at a time, for leases that nobody drops any more. */
const SWEPT_KEYS_A_NEW_KEY = 2;
const SWEPT_KEYS_A_SWEEP = 64;

type Database = Environment<Buffer>['database'];

const EPOCH_RECORD: Buffer = Buffer.from('e');
/** Records of keys are named by this and the key in UTF-8. */
const KEY_PREFIX = 'k';
const FIRST_KEY: Buffer = Buffer.from(KEY_PREFIX);
const AFTER_LAST_KEY: Buffer = Buffer.from('l');

/** Whom a transaction wants told of what, once it is committed. */
export type Message = readonly [channel: string, event: StoreEvent];

export interface EngineOptions {
  /** The folder of the LMDB environment. */
  readonly path: string;
  /** Whether each commit must reach the disk. */
  readonly synced: boolean;
  readonly guard: ExitGuard;
  readonly channel: string;
  isListening(channel: string): boolean;
}

export async function openEngine(options: EngineOptions): Promise<Engine> {
  const { path, guard, synced } = options;
  const parts = { path, guard, synced, mapBytes: MAP_BYTES, keyEncoding: 'binary' } as const;
  return new Engine(options, await Environment.open<Buffer>(parts));
}

export class Engine {
  readonly #options: EngineOptions;
  readonly #environment: Environment<Buffer>;
  #sweepDebt = 0;
  #sweepFrom: Buffer = FIRST_KEY;

  constructor(options: EngineOptions, environment: Environment<Buffer>) {
    this.#options = options;
    this.#environment = environment;
  }

  /** Makes the calls in one transaction and answers in the same order; or throws, and did nothing. */
  run(calls: readonly Call[]): { answers: Answer[]; messages: Message[] } {
    const messages: Message[] = [];
    const answers = this.#environment.transaction(() => {
      const step = new Step(this.#options, this.#environment.database, messages);
      const answered = calls.map((call) => step.call(call));
      this.#sweep(step);
      step.saveEpoch();
      return answered;
    });
    return { answers, messages };
  }

  async close(): Promise<void> {
    await this.#environment.close();
  }

  /** Pays for new keys by looking at old ones, so that what the dead left behind never outgrows what is in use. */
  #sweep(step: Step): void {
    this.#sweepDebt += step.newKeys * SWEPT_KEYS_A_NEW_KEY;
    if (this.#sweepDebt < SWEPT_KEYS_A_SWEEP) return;
    this.#sweepDebt = 0;
    this.#sweepFrom = step.settleSome(this.#sweepFrom, SWEPT_KEYS_A_SWEEP) ?? FIRST_KEY;
  }
}

/** One transaction: everything in it happens at one moment of the machine's clock. */
class Step implements StepContext {
  readonly nowMs: number;
  readonly channel: string;
  newKeys = 0;
  readonly #options: EngineOptions;
  readonly #database: Database;
  readonly #messages: Message[];
  readonly #savedEpoch: number;
  #epoch: number;

  constructor(options: EngineOptions, database: Database, messages: Message[]) {
    this.#options = options;
    this.#database = database;
    this.#messages = messages;
    this.channel = options.channel;
    this.nowMs = machineMs();
    this.#savedEpoch = (database.get(EPOCH_RECORD) as number | undefined) ?? 0;
    this.#epoch = this.#savedEpoch;
  }

  call(call: Call): Answer {
    switch (call.is) {
      case 'claim':
        return this.#claim(call.claim);
      case 'renew':
        return call.claims.map((claim) => this.#renew(claim));
      case 'drop':
        return this.#drop(call.id.key, call);
      case 'inspect':
        return this.#inspect(call.after);
    }
  }

  /** Looks at keys from one on, and answers where to go on; `null` at the end. */
  settleSome(from: Buffer, count: number): Buffer | null {
    const entries = this.#database.getRange({ start: from, end: AFTER_LAST_KEY, limit: count + 1 });
    const found = [...entries];
    for (const { key: name, value } of found.slice(0, count)) {
      const state = this.#ofThisBoot(value as KeyState);
      settleKey(state, name.toString('utf8', KEY_PREFIX.length), this);
      this.#save(name, state);
    }
    return found[count]?.key ?? null;
  }

  saveEpoch(): void {
    if (this.#epoch !== this.#savedEpoch) void this.#database.put(EPOCH_RECORD, this.#epoch);
  }

  mintEpoch(): number {
    const sinceStartUs = Math.floor((Date.now() - EPOCH_START_MS) * 1000);
    this.#epoch = Math.max(this.#epoch + 1, sinceStartUs);
    return this.#epoch;
  }

  lastEpoch(): number {
    return this.#epoch;
  }

  isListening(channel: string): boolean {
    return this.#options.isListening(channel);
  }

  tell(channel: string, event: StoreEvent): void {
    this.#messages.push([channel, event]);
  }

  #claim(claim: Claim): ClaimOutcome {
    const name = recordName(claim.key);
    const stored = this.#load(name);
    if (stored === null) this.newKeys += 1;
    const state = stored ?? emptyKeyState(claim.capacity);
    const outcome = claimKey(state, claim, this);
    this.#save(name, state);
    return outcome;
  }

  #renew(claim: Claim): RenewOutcome {
    const name = recordName(claim.key);
    const state = this.#load(name);
    if (state === null) return { is: 'lost' };
    const outcome = renewKey(state, claim, this);
    if (outcome.is === 'held') this.#save(name, state);
    return outcome;
  }

  #drop(key: string, call: Extract<Call, { is: 'drop' }>): DropOutcome {
    const name = recordName(key);
    const state = this.#load(name);
    if (state === null) return { held: false, next: null };
    const outcome = dropKey(state, call.id, call.again, this);
    this.#save(name, state);
    return outcome;
  }

  #inspect(after: string | null): EmbeddedKeyReport[] {
    // The key that follows another one directly is the same with a zero byte behind.
    const start = after === null ? FIRST_KEY : recordName(`${after}\0`);
    const range = { start, end: AFTER_LAST_KEY, limit: KEYS_A_REPORT };
    const entries = this.#database.getRange(range);
    return [...entries].map(({ key: name, value }) => {
      const { capacity, holders, waiters } = value as KeyState;
      return {
        key: name.toString('utf8', KEY_PREFIX.length),
        capacity,
        holders: holders.map((holder) => holder.owner),
        waiters: waiters.map((waiter) => waiter.owner),
      };
    });
  }

  #load(name: Buffer): KeyState | null {
    const value = this.#database.get(name) as KeyState | undefined;
    return value === undefined ? null : this.#ofThisBoot(value);
  }

  /**
   * The machine's clock starts anew with each boot. Where boots have no name, leases of an earlier one show by ending
   * later than any lease of this one could.
   */
  #ofThisBoot(state: KeyState): KeyState {
    if (!this.#options.synced) return state;
    const holders = state.holders.filter(
      (holder) => holder.expiresAtMs <= this.nowMs + holder.ttlMs,
    );
    const waiters = state.waiters.filter((waiter) => waiter.seenAtMs <= this.nowMs);
    return { capacity: state.capacity, holders, waiters };
  }

  #save(name: Buffer, state: KeyState): void {
    if (isEmpty(state)) void this.#database.remove(name);
    else void this.#database.put(name, state);
  }
}

function recordName(key: string): Buffer {
  return Buffer.from(KEY_PREFIX + key);
}

/** The monotonic clock that all processes of the machine share, in milliseconds. */
function machineMs(): number {
  const [seconds, nanoseconds] = process.hrtime();
  return seconds * 1_000 + nanoseconds / 1_000_000;
}
