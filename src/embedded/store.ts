/**
 * The store for the processes of one machine: the store contract, on an engine that runs on a thread of its own.
 */
import { InvalidArgumentError } from '../core/errors.ts';
import { MAX_DELAY_MS } from '../core/options.ts';
import type {
  Claim,
  ClaimId,
  ClaimOutcome,
  DropOutcome,
  Guarantees,
  LeaseStore,
  RenewOutcome,
  StoreEvent,
} from '../core/store.ts';
import { EngineClient } from './engine-client.ts';
import { type Answer, type Call, type EmbeddedKeyReport, KEYS_A_REPORT } from './protocol.ts';

export interface EmbeddedOptions {
  /**
   * A folder on a file system of this machine, not a shared one. It is made, for this user alone, when it is missing,
   * and belongs to the store.
   */
  readonly path: string;
  /**
   * How long calls wait while the store answers nothing at all, in milliseconds. After that they count as unknown, done
   * or not done, and the manager tries again. Default 2,000.
   */
  readonly requestTimeoutMs?: number;
  /** How long opening the folder may take, in milliseconds. Default 10,000. */
  readonly openTimeoutMs?: number;
}

const REQUEST_TIMEOUT_MS = 2_000;
const OPEN_TIMEOUT_MS = 10_000;
/** As many leases are renewed in one step; those of the next step may fare otherwise. */
const RENEWALS_A_CALL = 500;

const GUARANTEES: Guarantees = {
  scope: 'machine',
  handOver: 'direct',
  order: 'arrival',
  capacities: 'any',
  survives: [
    'a process that is killed: its leases end by their ttl, and its place in a queue blocks nobody',
    'a process that is stopped at any moment: it delays others, whose deadlines hold',
    'a restart of the machine: no lease outlives it, and tokens go on increasing',
    'jumps of the wall clock while the machine runs',
  ],
  doesNotSurvive: [
    'a second machine, or virtual machine, on the same files: network file systems are refused',
    'the removal of the folder while it is in use',
    'a wall clock that is set back across a restart of the machine: tokens may then repeat',
  ],
};

export class EmbeddedStore implements LeaseStore {
  readonly name: string = 'embedded';
  readonly guarantees: Guarantees = GUARANTEES;
  readonly #path: string;
  readonly #requestTimeoutMs: number;
  readonly #openTimeoutMs: number;
  #engine: EngineClient<Call, Answer> | null = null;

  constructor(options: EmbeddedOptions) {
    if (typeof options !== 'object' || options === null) {
      throw new InvalidArgumentError('embedded takes an object: embedded({ path })');
    }
    const { path, requestTimeoutMs, openTimeoutMs } = options;
    if (typeof path !== 'string' || path === '' || path.includes('\0')) {
      throw new InvalidArgumentError('path is the name of a folder, as text');
    }
    this.#path = path;
    this.#requestTimeoutMs = readMs('requestTimeoutMs', requestTimeoutMs, REQUEST_TIMEOUT_MS);
    this.#openTimeoutMs = readMs('openTimeoutMs', openTimeoutMs, OPEN_TIMEOUT_MS);
  }

  async open(on: (event: StoreEvent) => void): Promise<void> {
    if (this.#engine !== null) throw new Error('the embedded store is open already');
    const engine = new EngineClient<Call, Answer>({
      // As it is called once it is compiled: specifiers in text are not rewritten.
      thread: new URL('./engine-thread.js', import.meta.url),
      path: this.#path,
      timeoutMs: this.#requestTimeoutMs,
      on,
      weightOf: (call) => (call.is === 'renew' ? call.claims.length : 1),
    });
    this.#engine = engine;
    try {
      await engine.open(this.#openTimeoutMs);
    } catch (error) {
      this.#engine = null;
      await engine.close();
      throw error;
    }
  }

  claim(claim: Claim): Promise<ClaimOutcome> {
    return this.#call<ClaimOutcome>({ is: 'claim', claim });
  }

  async renew(claims: readonly Claim[]): Promise<readonly RenewOutcome[]> {
    const slices: Promise<readonly RenewOutcome[]>[] = [];
    for (let from = 0; from < claims.length; from += RENEWALS_A_CALL) {
      slices.push(this.#renewSlice(claims.slice(from, from + RENEWALS_A_CALL)));
    }
    return (await Promise.all(slices)).flat();
  }

  drop(id: ClaimId, again?: Claim): Promise<DropOutcome> {
    return this.#call<DropOutcome>({ is: 'drop', id: { key: id.key, owner: id.owner }, again });
  }

  /**
   * What stands in the folder, expired leases that nobody has looked at since included; not all of it of one moment. For
   * tools and tests.
   */
  async inspect(): Promise<readonly EmbeddedKeyReport[]> {
    const found: EmbeddedKeyReport[] = [];
    for (let isMore = true; isMore; ) {
      const after = found.at(-1)?.key ?? null;
      const next = await this.#call<readonly EmbeddedKeyReport[]>({ is: 'inspect', after });
      found.push(...next);
      isMore = next.length === KEYS_A_REPORT;
    }
    return found;
  }

  async close(): Promise<void> {
    const engine = this.#engine;
    this.#engine = null;
    await engine?.close();
  }

  /** What one slice does not know says nothing about the others. */
  async #renewSlice(claims: readonly Claim[]): Promise<readonly RenewOutcome[]> {
    try {
      return await this.#call<readonly RenewOutcome[]>({ is: 'renew', claims });
    } catch (cause) {
      return claims.map(() => ({ is: 'unknown', cause }));
    }
  }

  async #call<T extends Answer>(call: Call): Promise<T> {
    if (this.#engine === null) throw new Error('the embedded store is not open');
    return (await this.#engine.call(call)) as T;
  }
}

function readMs(name: string, value: number | undefined, fallback: number): number {
  if (value === undefined) return fallback;
  if (Number.isInteger(value) && value >= 1 && value <= MAX_DELAY_MS) return value;
  throw new InvalidArgumentError(
    `${name} is a whole number from 1 to ${MAX_DELAY_MS}, not ${typeof value === 'number' ? value : typeof value}`,
  );
}
