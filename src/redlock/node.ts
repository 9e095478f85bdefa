/**
 * One of the masters: its client, its ear, and the operations that travel to it together.
 */
import { isWhole, UnreadableAnswerError } from '../redis/answers.ts';
import type { RedisClient } from '../redis/clients/client.ts';
import { type Layout, newNonce } from '../redis/layout.ts';
import { Listener } from '../redis/listener.ts';
import type { Script } from '../redis/scripts/script.ts';
import { explain, MisconfiguredError, probe, warnOfEviction } from '../redis/setup.ts';
import { within } from '../redis/within.ts';
import { type Operation, wordsAlone } from './attempt.ts';
import type { Settings } from './options.ts';
import { INQUIRE } from './scripts/inquire.ts';
import { fieldOf } from './scripts/marker.ts';
import { READMIT } from './scripts/readmit.ts';
import { newStep } from './scripts/step.ts';
import { VOUCH } from './scripts/vouch.ts';

/** Operations that a node has not answered yet. With more it is not asked: it would not answer in time. */
const MAX_UNANSWERED = 500_000;
/** What is subscribed on the node beside the channel of the store: see scripts/marker.ts. */
const STORE_SLOT = 0;
const WITNESS_SLOT = 1;
/** A node that could not be prepared is tried again after this time, in milliseconds. */
const PREPARE_AGAIN_MS = 250;

/** Whoever asks: each node answers once, or fails once. Neither may throw. */
export interface Asker {
  onAnswer(node: RedlockNode, answer: unknown): void;
  onFailure(node: RedlockNode, cause: unknown): void;
}

/** Asks for nothing but that it is done. */
export const UNHEARD: Asker = { onAnswer() {}, onFailure() {} };

/** What a node says of itself. */
export interface Standing {
  readonly state: 'votes' | 'new' | 'back';
  readonly runId: string;
  readonly abstainsMs: number;
  readonly longestTtlMs: number;
  readonly highestEpoch: number;
}

export interface NodeEvents {
  message(node: RedlockNode, text: string): void;
  reset(): void;
  /** It was prepared, or that failed. */
  prepared(): void;
}

export class RedlockNode {
  readonly index: number;
  /** For messages to people: addresses may hold secrets. */
  readonly name: string;
  readonly #client: RedisClient;
  readonly #layout: Layout;
  readonly #settings: Settings;
  readonly #events: NodeEvents;
  readonly #listener: Listener;
  readonly #channel: string;
  /** What scripts are told of this client: see scripts/marker.ts. */
  readonly #field: string;
  #witness = '';
  readonly #step: Script;
  #isVouching = false;
  #unanswered = 0;
  #preparing: Promise<void> | null = null;
  #preparedAtMs = -Infinity;
  #isReady = false;
  #isClosed = false;
  /** Why it cannot be used at the moment, or until somebody changes something. */
  #failure: unknown;
  /** The process that answered when the node was prepared. */
  runId: string | null = null;

  constructor(parts: {
    readonly index: number;
    readonly client: RedisClient;
    readonly layout: Layout;
    readonly settings: Settings;
    readonly events: NodeEvents;
  }) {
    this.index = parts.index;
    this.name = `node ${parts.index + 1}`;
    this.#client = parts.client;
    this.#layout = parts.layout;
    this.#settings = parts.settings;
    this.#events = parts.events;
    this.#channel = parts.layout.channelOf(STORE_SLOT);
    this.#field = fieldOf(parts.settings);
    this.#step = newStep(this.#field);
    this.#listener = new Listener({
      client: parts.client,
      // Asked once for each subscription: no two have the same witness.
      channelOf: (slot) => (slot === STORE_SLOT ? this.#channel : this.#newWitness()),
      events: {
        message: (text) => parts.events.message(this, text),
        reset: () => parts.events.reset(),
      },
      timeoutMs: parts.settings.requestTimeoutMs,
    });
  }

  get misconfigured(): MisconfiguredError | null {
    return this.#failure instanceof MisconfiguredError ? this.#failure : null;
  }

  /** Connects, looks whether the server can carry locks, and listens. Never rejects. */
  prepare(): Promise<void> {
    this.#preparing ??= this.#prepare().finally(() => {
      this.#preparing = null;
      this.#preparedAtMs = performance.now();
    });
    return this.#preparing;
  }

  /** Asks this node alone, now. */
  ask(lock: string, operation: Operation, asker: Asker): void {
    this.run([lock], wordsAlone(operation), [asker]);
  }

  /** Sends operations on one lock each, given as the words of all of them. */
  run(locks: readonly string[], words: readonly string[], askers: readonly Asker[]): void {
    if (!this.#isReady || this.#unanswered >= MAX_UNANSWERED) {
      this.#refuse(askers);
      return;
    }
    this.#unanswered += askers.length;
    this.#client.evaluate(this.#step, locks, words).then(
      (answers) => this.#answered(askers, answers),
      (cause) => this.#failed(askers, cause),
    );
  }

  /** A claim had to compare run ids: whoever was the witness has gone. Nothing depends on that this succeeds. */
  vouch(): void {
    if (this.#isVouching) return;
    this.#isVouching = true;
    const done = (): void => {
      this.#isVouching = false;
    };
    this.#within(this.#client.evaluate(VOUCH, [], [this.#field, this.#witness])).then(done, done);
  }

  /** The server says that nobody listens, although this store should. */
  distrustListener(): void {
    this.#listener.distrust(STORE_SLOT);
  }

  async inquire(): Promise<Standing> {
    const run = this.#client.evaluate(INQUIRE, [], [this.#field, this.#witness]);
    const answer = await this.#within(run);
    const [state, runId, abstainsMs, longestTtlMs, highestEpoch] = Array.isArray(answer)
      ? answer
      : [];
    // One node's nonsense would become what another one remembers.
    const isState = state === 'votes' || state === 'new' || state === 'back';
    const areNumbers = [abstainsMs, longestTtlMs, highestEpoch].every((one) => isWhole(one, 0));
    if (!isState || typeof runId !== 'string' || !areNumbers) {
      throw new UnreadableAnswerError('a question');
    }
    return {
      state,
      runId,
      abstainsMs: Number(abstainsMs),
      longestTtlMs: Number(longestTtlMs),
      highestEpoch: Number(highestEpoch),
    };
  }

  /** True when the node votes now. */
  async readmit(about: Standing, isFirst: boolean): Promise<boolean> {
    const { runId, highestEpoch, longestTtlMs } = about;
    const facts = [runId, String(highestEpoch), String(longestTtlMs), isFirst ? '1' : '0'];
    const args = [this.#field, this.#witness, ...facts];
    const run = this.#client.evaluate(READMIT, [], args);
    return Number(await this.#within(run)) === 1;
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    this.#isReady = false;
    this.#listener.close();
    await this.#client.close();
  }

  async #prepare(): Promise<void> {
    const { requestTimeoutMs } = this.#settings;
    try {
      await within(this.#client.connect(), requestTimeoutMs, 'a new connection');
      const info = String(await this.#info());
      if (/^redis_mode:cluster/m.test(info)) throw notAMaster(this.name);
      this.runId = /^run_id:(\w+)/m.exec(info)?.[1] ?? null;
      const nonce = crypto.randomUUID();
      await probe(this.#client, this.#layout, nonce, requestTimeoutMs);
      try {
        await this.#listener.listen(STORE_SLOT);
        await this.#listener.listen(WITNESS_SLOT);
      } catch (cause) {
        throw explain(cause, 'SUBSCRIBE (+subscribe)');
      }
      if (this.#isClosed) return;
      this.#failure = undefined;
      this.#isReady = true;
      void warnOfEviction(this.#client, requestTimeoutMs);
    } catch (cause) {
      this.#failure = cause;
    }
    if (!this.#isClosed) this.#events.prepared();
  }

  async #info(): Promise<unknown> {
    try {
      return await this.#within(this.#client.command(['INFO', 'server']));
    } catch (cause) {
      throw explain(cause, 'INFO (+info)');
    }
  }

  #answered(askers: readonly Asker[], answers: unknown): void {
    // The answer of a single operation comes by itself.
    if (askers.length === 1) {
      this.#unanswered -= 1;
      askers[0]?.onAnswer(this, answers);
      return;
    }
    if (!Array.isArray(answers) || answers.length !== askers.length) {
      const what = 'it answered a script with something else: is there a proxy in between?';
      this.#failed(askers, new Error(what));
      return;
    }
    this.#unanswered -= askers.length;
    for (let index = 0; index < askers.length; index += 1) {
      askers[index]?.onAnswer(this, answers[index]);
    }
  }

  #failed(askers: readonly Asker[], cause: unknown): void {
    this.#unanswered -= askers.length;
    for (const asker of askers) asker.onFailure(this, cause);
  }

  #refuse(askers: readonly Asker[]): void {
    const cause = this.#isReady
      ? new Error('it has not answered for long')
      : (this.#failure ?? new Error('it is not connected yet'));
    if (!this.#isReady && performance.now() - this.#preparedAtMs > PREPARE_AGAIN_MS) {
      void this.prepare();
    }
    // Not now: whoever asks is not ready for answers before it has asked everybody.
    queueMicrotask(() => {
      for (const asker of askers) asker.onFailure(this, cause);
    });
  }

  #newWitness(): string {
    this.#witness = `leasehold:w:${newNonce()}`;
    return this.#witness;
  }

  #within<T>(promise: Promise<T>): Promise<T> {
    return within(promise, this.#settings.requestTimeoutMs, 'a question about itself');
  }
}

function notAMaster(name: string): MisconfiguredError {
  return new MisconfiguredError(
    `${name} is part of a Redis Cluster, whose nodes are not independent; ` +
      'give redlock() masters that know nothing of each other, or the cluster to redis()',
  );
}
