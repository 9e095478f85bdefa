/**
 * The engine of all that outlives the machine's boot: records in a synced LMDB environment, and steps on them in
 * transactions. What a step means is a matter of its part.
 *
 * As the engine of leases, it runs on a thread of its own and makes the calls of one turn in one transaction: so they
 * also share the wait for the disk.
 */
import type { StoreEvent } from '../../core/store.ts';
import type { Message } from '../engine.ts';
import { Environment } from '../environment.ts';
import type { ExitGuard } from '../exit-guard.ts';

/** Address space for the environment, in bytes; it takes what it needs on disk, and grows beyond when it must. */
const MAP_BYTES = 1_073_741_824;

/** Every record has a key that begins with the name of its part. */
export type RecordKey = readonly (string | number)[];
export type Records = Environment<(string | number)[]>['database'];

/** One transaction, as a part sees it. */
export interface RecordsStep {
  readonly records: Records;
  /** Names this process's thread, for others to wake it. */
  readonly channel: string;
  /** By the wall clock: records outlive the machine's boot, and its monotonic clock does not. */
  readonly nowMs: number;
  /** Whether nobody listens there any more; when in doubt, false. */
  isGone(channel: string): boolean;
  /** Wakes the users of a channel, once the transaction is committed. */
  tell(channel: string, event: StoreEvent): void;
}

/** Makes one call. What it throws undoes the whole transaction. */
export type Part<Call, Answer> = (step: RecordsStep, call: Call) => Answer;

export interface PartCall {
  readonly part: string;
  readonly call: unknown;
}

export interface RecordsEngineOptions {
  readonly path: string;
  readonly guard: ExitGuard;
  readonly channel: string;
  readonly parts: Readonly<Record<string, Part<never, unknown>>>;
  isGone(channel: string): boolean;
}

export async function openRecords(options: RecordsEngineOptions): Promise<RecordsEngine> {
  const { path, guard } = options;
  const parts = { path, guard, synced: true, mapBytes: MAP_BYTES };
  return new RecordsEngine(options, await Environment.open<(string | number)[]>(parts));
}

export class RecordsEngine {
  readonly #options: RecordsEngineOptions;
  readonly #environment: Environment<(string | number)[]>;

  constructor(options: RecordsEngineOptions, environment: Environment<(string | number)[]>) {
    this.#options = options;
    this.#environment = environment;
  }

  /** Makes the calls in one transaction and answers in the same order; or throws, and did nothing. */
  run(calls: readonly PartCall[]): { answers: unknown[]; messages: Message[] } {
    const { channel, parts } = this.#options;
    const messages = new Map<string, Message>();
    const step: RecordsStep = {
      records: this.#environment.database,
      channel,
      nowMs: Date.now(),
      isGone: (other) => this.#options.isGone(other),
      tell(to, event) {
        messages.set(`${to} ${'key' in event ? event.key : ''}`, [to, event]);
      },
    };
    const answers = this.#environment.transaction(() =>
      calls.map(({ part, call }) => {
        const run = parts[part];
        if (run === undefined) throw new Error(`the records have no part '${part}'`);
        return run(step, call as never);
      }),
    );
    return { answers, messages: [...messages.values()] };
  }

  async close(): Promise<void> {
    await this.#environment.close();
  }
}
