/**
 * The lease store on independent masters: the Redlock algorithm, with epochs that a majority has accepted.
 *
 * Each node decides for itself, in scripts; here, their votes become one outcome. See the proof in docs/stores.
 */
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
import { numberOf, UnreadableAnswerError } from '../redis/answers.ts';
import type { RedisClient } from '../redis/clients/client.ts';
import { isTaken, Layout, NAME_TAKEN, newNonce } from '../redis/layout.ts';
import { MisconfiguredError } from '../redis/setup.ts';
import { slotOf } from '../redis/slots.ts';
import {
  type Attempt,
  dropOf,
  dropOfHeld,
  newAttempt,
  type Operation,
  operationOf,
  type Place,
  swapOf,
} from './attempt.ts';
import { ClaimRound, type Lost, type RoundResult } from './claim-round.ts';
import { GUARANTEES } from './guarantees.ts';
import { DropRound, RenewRound, type RoundParts } from './hold-rounds.ts';
import { RedlockNode, UNHEARD } from './node.ts';
import type { Settings } from './options.ts';
import { answerTo } from './outcome.ts';
import { Proposals } from './proposals.ts';
import { Recovery } from './recovery.ts';
import { Runs } from './runs.ts';
import { Signals } from './signals.ts';
import { Watch } from './watch.ts';

/** A claim proposes anew when its epoch was too low, so often; then it counts as not answered. */
const MAX_PROPOSALS = 4;
/** A claim waits for a node for this share of its ttl, and for no less than the floor, in milliseconds. */
const CLAIM_TIMEOUT_SHARE = 1 / 3;
const CLAIM_TIMEOUT_FLOOR_MS = 500;

type OnEvent = (event: StoreEvent) => void;
type Connect = () => Promise<RedisClient>;

/** What exists while the store is open. */
interface Session extends RoundParts {
  readonly recovery: Recovery;
  readonly signals: Signals;
  readonly onAbstention: () => void;
}

export class RedlockStore implements LeaseStore {
  readonly name: string = 'redlock';
  readonly guarantees: Guarantees = GUARANTEES;
  readonly #connect: readonly Connect[];
  readonly #settings: Settings;
  readonly #layout: Layout;
  readonly #quorum: number;
  readonly #proposals = new Proposals();
  /** What this process holds, by owner value. */
  readonly #held = new Map<string, Attempt>();
  /** The owner values under which nodes may have queued this process: they claim in another way. */
  readonly #queued = new Set<string>();
  readonly #channel: string;
  #on: OnEvent = () => {};
  #session: Session | null = null;
  /** What a person must mend before a claim can be granted. */
  #misconfigured: MisconfiguredError | null = null;

  constructor(connect: readonly Connect[], settings: Settings) {
    this.#connect = connect;
    this.#settings = settings;
    this.#quorum = Math.floor(connect.length / 2) + 1;
    this.#layout = new Layout({ prefix: settings.prefix, isCluster: false, nonce: newNonce() });
    this.#channel = this.#layout.channelOf(0);
  }

  async open(on: OnEvent): Promise<void> {
    if (this.#session !== null) throw new Error('the redlock store is open already');
    this.#on = on;
    const session = this.#begin(await Promise.all(this.#connect.map((connect) => connect())));
    await Promise.all(session.nodes.map((node) => node.prepare()));
    if (this.#misconfigured === null) await session.recovery.start();
    this.#session = session;
  }

  claim(claim: Claim): Promise<ClaimOutcome> {
    const session = this.#session;
    if (session === null) return Promise.reject(notOpen());
    // Not `async` for what nearly every call is: each such function costs turns of the event loop.
    if (this.#misconfigured !== null || this.#held.has(claim.owner)) {
      return this.#claimAgain(session, claim);
    }
    const refused = this.#refusal(claim);
    return refused === null ? this.#propose(session, claim) : Promise.resolve(refused);
  }

  renew(claims: readonly Claim[]): Promise<readonly RenewOutcome[]> {
    const session = this.#opened();
    const outcomes = claims.map(async ({ owner }): Promise<RenewOutcome> => {
      const held = this.#held.get(owner);
      return held === undefined ? { is: 'lost' } : this.#renewOne(session, held);
    });
    return Promise.all(outcomes);
  }

  drop({ key, owner }: ClaimId, again?: Claim): Promise<DropOutcome> {
    const session = this.#session;
    if (session === null) return Promise.reject(notOpen());
    if (again !== undefined) return this.#dropAndClaim(session, owner, again);
    const held = this.#forget(owner);
    const round = new DropRound(session, held !== undefined);
    session.runs.ask(round, this.#lockOf(key), this.#dropOf(owner, held));
    return round.result.then((wasHeld) => ({ held: wasHeld, next: null }));
  }

  async close(): Promise<void> {
    const session = this.#session;
    this.#session = null;
    if (session === null) return;
    session.signals.close();
    session.watch.close();
    await Promise.all(session.nodes.map((node) => node.close()));
  }

  #begin(clients: readonly RedisClient[]): Session {
    const quorum = this.#quorum;
    const signals = new Signals(quorum, (key) => this.#on({ is: 'available', key }));
    const events = {
      message: (_node: RedlockNode, text: string): void => this.#onMessage(text, signals),
      reset: (): void => this.#on({ is: 'reset' }),
      prepared: (): void => {
        this.#misconfigured = whatIsWrong(nodes);
      },
    };
    const [layout, settings] = [this.#layout, this.#settings];
    const nodes = clients.map(
      (client, index) => new RedlockNode({ index, client, layout, settings, events }),
    );
    const recovery = new Recovery(nodes, quorum, settings.durable);
    const onAbstention = (): void => void recovery.start();
    const timeoutMs = settings.requestTimeoutMs;
    const [runs, watch] = [new Runs(nodes), new Watch()];
    return { nodes, quorum, runs, watch, timeoutMs, recovery, signals, onAbstention };
  }

  /** What a person must mend before a claim can be granted. */
  #refusal({ key, units, capacity, ttlMs }: Claim): ClaimOutcome | null {
    const { maxTtlMs } = this.#settings;
    let detail: string | undefined;
    if (units !== capacity) {
      detail =
        'Redlock does exclusive locks only: permits and readers that are counted on each node for itself ' +
        'can add up to more than the limit; take the redis store for them';
    } else if (ttlMs > maxTtlMs) {
      detail = `a ttl of ${ttlMs} ms is longer than maxTtlMs, ${maxTtlMs} ms: shorten it, or raise maxTtlMs for all`;
    } else if (isTaken(this.#lockOf(key))) {
      detail = NAME_TAKEN;
    } else {
      detail = this.#misconfigured?.message;
    }
    return detail === undefined ? null : { is: 'refused', reason: 'unsupported', detail };
  }

  /** What is held is claimed again, or nobody could claim anything the last time. */
  async #claimAgain(session: Session, claim: Claim): Promise<ClaimOutcome> {
    if (this.#misconfigured !== null) await lookAgain(session);
    const refused = this.#refusal(claim);
    if (refused !== null) return refused;
    const held = this.#held.get(claim.owner);
    if (held !== undefined) {
      const outcome = await this.#renewOne(session, held);
      if (outcome.is === 'unknown') throw outcome.cause;
      if (outcome.is === 'held') return granted(claim, held, outcome.wanted);
    }
    return this.#propose(session, claim);
  }

  /** Claims with a new epoch, and with a higher one while that is all that is missing. */
  #propose(session: Session, claim: Claim): Promise<ClaimOutcome> {
    const place = this.#placeOf(claim.key);
    const again = claim.wait ? 'c' : 'C';
    return new Promise((resolve, reject) => {
      let count = 0;
      const propose = (): void => {
        count += 1;
        const attempt = this.#newAttempt(claim, place);
        const onEnd = (result: RoundResult): void => {
          if (result.is === 'won') {
            resolve(this.#won(claim, attempt, result.wanted));
          } else if (this.#isOnlyTooLow(result) && count < MAX_PROPOSALS) {
            propose();
          } else {
            try {
              resolve(this.#lost(claim, result));
            } catch (cause) {
              reject(cause);
            }
          }
        };
        const isNew = count === 1 && !this.#queued.has(claim.owner);
        const kind = isNew ? (claim.wait ? 'n' : 'N') : again;
        const round = this.#claimRound(session, claim, attempt, onEnd);
        session.runs.ask(round, place.lock, operationOf(kind, attempt));
      };
      propose();
    });
  }

  async #dropAndClaim(session: Session, owner: string, again: Claim): Promise<DropOutcome> {
    const held = this.#forget(owner);
    if (this.#misconfigured !== null) await lookAgain(session);
    const round = new DropRound(session, held !== undefined);
    const refused = this.#refusal(again);
    if (refused === null) return this.#swap(session, owner, again, round);
    session.runs.ask(round, this.#lockOf(again.key), this.#dropOf(owner, held));
    const wasHeld = await round.result;
    return { held: wasHeld, next: wasHeld ? refused : null };
  }

  async #swap(
    session: Session,
    owner: string,
    again: Claim,
    drop: DropRound,
  ): Promise<DropOutcome> {
    const place = this.#placeOf(again.key);
    const attempt = this.#newAttempt(again, place);
    let onEnd: (result: RoundResult) => void = () => {};
    const claimed = new Promise<RoundResult>((resolve) => {
      onEnd = resolve;
    });
    const claim = this.#claimRound(session, again, attempt, onEnd);
    const asker = {
      onAnswer(node: RedlockNode, answer: unknown): void {
        if (Array.isArray(answer)) claim.onAnswer(node, answer[1]);
        else if (numberOf(answer) === 0) claim.onVote(node, { is: 'absent' });
        else claim.onFailure(node, new UnreadableAnswerError('a swap'));
        drop.onAnswer(node, answer);
      },
      onFailure(node: RedlockNode, cause: unknown): void {
        claim.onFailure(node, cause);
        drop.onFailure(node, cause);
      },
    };
    if (again.wait) this.#queued.add(again.owner);
    session.runs.ask(asker, place.lock, swapOf(owner, attempt, again.wait));
    const [dropped] = await Promise.allSettled([drop.result]);
    const result = await claimed;
    if (result.is === 'won') {
      return { held: true, next: this.#won(again, attempt, result.wanted) };
    }
    if (dropped.status === 'rejected') throw dropped.reason;
    if (!dropped.value) {
      // A minority had it still, and may have queued the other.
      session.runs.ask(UNHEARD, place.lock, this.#dropOf(again.owner));
      return { held: false, next: null };
    }
    const next = this.#isOnlyTooLow(result)
      ? await this.#propose(session, again)
      : this.#lost(again, result);
    return { held: true, next };
  }

  #claimRound(
    session: Session,
    { ttlMs, wait }: Claim,
    attempt: Attempt,
    onEnd: (result: RoundResult) => void,
  ): ClaimRound {
    const { nodes, quorum, watch, onAbstention } = session;
    const shareMs = Math.max(CLAIM_TIMEOUT_FLOOR_MS, ttlMs * CLAIM_TIMEOUT_SHARE);
    const timeoutMs = Math.min(shareMs, session.timeoutMs);
    return new ClaimRound({ nodes, quorum, watch, attempt, wait, timeoutMs, onAbstention, onEnd });
  }

  #newAttempt(claim: Claim, place: Place): Attempt {
    return newAttempt(claim, place, this.#proposals.next(), this.#channel);
  }

  #won(claim: Claim, held: Attempt, wanted: boolean): ClaimOutcome {
    this.#queued.delete(claim.owner);
    this.#held.set(claim.owner, held);
    return granted(claim, held, wanted);
  }

  /** Throws when too few nodes have answered. */
  #lost(claim: Claim, result: Lost): ClaimOutcome {
    if (claim.wait) this.#queued.add(claim.owner);
    const outcome = answerTo(claim, result, this.#quorum);
    // Whoever is told to wait claims or drops again, and so does whoever is told nothing.
    if (outcome.is !== 'waiting') this.#queued.delete(claim.owner);
    return outcome;
  }

  #dropOf(owner: string, held?: Attempt): Operation {
    return held === undefined ? dropOf(owner, this.#channel) : dropOfHeld(held);
  }

  /** What is held under this owner value, which is not used again. */
  #forget(owner: string): Attempt | undefined {
    const held = this.#held.get(owner);
    this.#held.delete(owner);
    this.#queued.delete(owner);
    return held;
  }

  /** Whether the lock is free on a majority, but for the epoch. Learns from it in any case. */
  #isOnlyTooLow({ votes }: Lost): boolean {
    let low = 0;
    let others = 0;
    for (const vote of votes) {
      if (vote.is === 'low') low += 1;
      if (vote.is === 'accepted') others += 1;
      if (vote.is === 'low' || vote.is === 'busy') this.#proposals.learn(vote.epoch);
    }
    return low > 0 && low + others >= this.#quorum;
  }

  async #renewOne(session: Session, held: Attempt): Promise<RenewOutcome> {
    const outcome = await new RenewRound(session, held).result;
    if (outcome.is === 'lost' && this.#held.get(held.owner) === held) {
      this.#held.delete(held.owner);
    }
    return outcome;
  }

  #lockOf(key: string): string {
    return this.#settings.prefix + key;
  }

  #placeOf(key: string): Place {
    const lock = this.#lockOf(key);
    return { lock, slot: slotOf(lock) };
  }

  #onMessage(text: string, signals: Signals): void {
    const message = readMessage(text);
    if (message === null) return;
    const key = this.#layout.keyOf(message.lock);
    if (message.is === 'available') signals.note(key, Number(message.epoch));
    else if (message.is === 'wanted') this.#on({ is: 'wanted', key });
  }

  #opened(): Session {
    if (this.#session === null) throw notOpen();
    return this.#session;
  }
}

function notOpen(): Error {
  return new Error('the redlock store is not open');
}

async function lookAgain({ nodes }: Session): Promise<void> {
  await Promise.all(nodes.map((node) => node.prepare()));
}

function granted(claim: Claim, { epoch, ttlMs }: Attempt, wanted: boolean): ClaimOutcome {
  return { is: 'granted', claim, epoch: BigInt(epoch), ttlMs, wanted };
}

/** Null for what is none of ours, as the empty text of a probe: anybody may publish anything on a channel. */
function readMessage(text: string): { is: unknown; lock: string; epoch: unknown } | null {
  let message: unknown;
  try {
    message = JSON.parse(text);
  } catch {
    return null;
  }
  if (!Array.isArray(message)) return null;
  const [is, lock, epoch] = message as unknown[];
  return typeof lock === 'string' ? { is, lock, epoch } : null;
}

/** Looked at whenever a node was prepared, or that failed. */
function whatIsWrong(nodes: readonly RedlockNode[]): MisconfiguredError | null {
  const names = new Map<string, string>();
  for (const { misconfigured, name, runId } of nodes) {
    if (misconfigured !== null) return misconfigured;
    if (runId === null) continue;
    const twin = names.get(runId);
    if (twin !== undefined) {
      const message = `${twin} and ${name} are the same server; give redlock() each server once`;
      return new MisconfiguredError(message);
    }
    names.set(runId, name);
  }
  return null;
}
