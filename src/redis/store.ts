/**
 * The lease store on Redis: one server, a master with replicas behind Sentinel, or a Cluster.
 *
 * The state of each key is on the server, and scripts change it; here, calls become operations of a script, answers
 * become outcomes, and messages become events.
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
import { readClaim, readDrop, readMessage, readRenew } from './answers.ts';
import type { RedisClient, Server } from './clients/client.ts';
import { guaranteesOf } from './guarantees.ts';
import { isTaken, Layout, NAME_TAKEN, newNonce } from './layout.ts';
import { Listener } from './listener.ts';
import type { Settings } from './options.ts';
import { Replicas } from './replicas.ts';
import { explain, MisconfiguredError, probe, warnOfEviction } from './setup.ts';
import { MAX_RENEWALS, Steps } from './steps.ts';
import { Unanswered } from './unanswered.ts';
import { within } from './within.ts';

type OnEvent = (event: StoreEvent) => void;

/** Runs of renewals under way at the same time: all of a hundred thousand would keep claims waiting, and be overdue. */
const RENEWALS_AT_ONCE = 32;

/** What exists while the store is open. */
interface Session {
  readonly client: RedisClient;
  readonly layout: Layout;
  readonly steps: Steps;
  readonly listener: Listener;
  readonly unanswered: Unanswered;
}

export class RedisStore implements LeaseStore {
  readonly name: string = 'redis';
  readonly guarantees: Guarantees;
  readonly #server: Server;
  readonly #settings: Settings;
  readonly #nonce = newNonce();
  #on: OnEvent = () => {};
  #session: Session | null = null;
  /** What a person must mend before a claim can be granted. */
  #misconfigured: MisconfiguredError | null = null;

  constructor(server: Server, settings: Settings) {
    this.#server = server;
    this.#settings = settings;
    this.guarantees = guaranteesOf(settings.minReplicas);
  }

  async open(on: OnEvent): Promise<void> {
    if (this.#session !== null) throw new Error('the redis store is open already');
    this.#on = on;
    const session = this.#begin(await this.#server.connect());
    try {
      await this.#check(session);
      await warnOfEviction(session.client, this.#settings.requestTimeoutMs);
    } catch (cause) {
      await end(session);
      throw cause;
    }
    this.#session = session;
  }

  /**
   * @internal Whether the locks are on that server, by the same client or at the same URL, so that one script can look at
   * both; in a cluster they are in different slots.
   */
  isBeside({ from, isCluster }: Server): boolean {
    return from === this.#server.from && !isCluster;
  }

  /** @internal The start of every lock's key. */
  get prefix(): string {
    return this.#settings.prefix;
  }

  async claim(claim: Claim): Promise<ClaimOutcome> {
    const session = this.#opened();
    if (this.#misconfigured !== null) await this.#check(session);
    const refused = this.#refusal(claim);
    if (refused !== null) return refused;
    const slot = session.layout.slotOf(claim.key);
    const operation = claimText(claim);
    const { listener } = session;
    const trusted = listener.heardBy(slot);
    const listening = listener.listenFirst(slot);
    try {
      const { outcome, isHeard } = readClaim(
        await session.steps.submit(slot, claim.key, operation),
        claim,
      );
      if (listening !== null) {
        // The first claim of a slot travels together with the subscription, and may have come before it.
        if (!(await succeeds(listening)) || outcome.is !== 'waiting' || isHeard) return outcome;
        return readClaim(await session.steps.submit(slot, claim.key, operation), claim).outcome;
      }
      if (outcome.is === 'waiting' && !isHeard) listener.distrust(slot, trusted);
      return outcome;
    } catch (cause) {
      session.unanswered.add(claim, cause);
      throw cause;
    }
  }

  async renew(claims: readonly Claim[]): Promise<readonly RenewOutcome[]> {
    const session = this.#opened();
    const outcomes: RenewOutcome[] = [];
    const runs = runsOf(claims, (key) => session.layout.slotOf(key)).values();
    const renewInTurn = async (): Promise<void> => {
      for (const { slot, indices } of runs) {
        try {
          const some = indices.map((index) => claims[index] as Claim);
          const answers = await session.steps.renew(slot, some);
          for (const [at, index] of indices.entries()) outcomes[index] = readRenew(answers[at]);
        } catch (cause) {
          for (const index of indices) outcomes[index] = { is: 'unknown', cause };
        }
      }
    };
    await Promise.all(Array.from({ length: RENEWALS_AT_ONCE }, renewInTurn));
    return outcomes;
  }

  async drop(claim: ClaimId, again?: Claim): Promise<DropOutcome> {
    const session = this.#opened();
    const slot = session.layout.slotOf(claim.key);
    const operation = (again ? 'a' : 'd') + claim.owner;
    const second = again && claimText(again);
    session.unanswered.dropped(claim);
    try {
      return readDrop(await session.steps.submit(slot, claim.key, operation, second), again);
    } catch (cause) {
      if (again) session.unanswered.add(again, cause);
      throw cause;
    }
  }

  async close(): Promise<void> {
    const session = this.#session;
    this.#session = null;
    if (session !== null) await end(session);
  }

  #begin(client: RedisClient): Session {
    const { prefix, requestTimeoutMs, minReplicas } = this.#settings;
    const layout = new Layout({ prefix, isCluster: client.isCluster, nonce: this.#nonce });
    const replicas = new Replicas(client, this.#settings);
    const confirm = (connections: number): Promise<void> => replicas.confirm(connections);
    const steps = new Steps({
      client,
      layout,
      timeoutMs: requestTimeoutMs,
      confirm: minReplicas > 0 ? confirm : null,
    });
    const listener = new Listener({
      client,
      channelOf: (slot) => layout.channelOf(slot),
      events: {
        message: (text) => this.#onMessage(text, layout),
        reset: () => this.#on({ is: 'reset' }),
      },
      timeoutMs: requestTimeoutMs,
    });
    const unanswered = new Unanswered((event) => this.#on(event));
    return { client, layout, steps, listener, unanswered };
  }

  /** Rejects for what may pass; notes what will not. */
  async #check({ client, layout, listener }: Session): Promise<void> {
    const { requestTimeoutMs, minReplicas } = this.#settings;
    try {
      await within(client.connect(), requestTimeoutMs, 'a new connection');
      await probe(client, layout, this.#nonce, requestTimeoutMs, minReplicas > 0);
      try {
        await listener.listen(layout.slotOf(''));
      } catch (cause) {
        throw explain(cause, 'SUBSCRIBE or SSUBSCRIBE (+subscribe +ssubscribe)');
      }
      this.#misconfigured = null;
    } catch (cause) {
      if (!(cause instanceof MisconfiguredError)) throw cause;
      this.#misconfigured = cause;
    }
  }

  #refusal({ key, units, capacity }: Claim): ClaimOutcome | null {
    let detail: string | undefined;
    if (units > capacity) detail = `${units} units are more than a capacity of ${capacity}`;
    else if (isTaken(this.#settings.prefix + key)) detail = NAME_TAKEN;
    else detail = this.#misconfigured?.message;
    return detail === undefined ? null : { is: 'refused', reason: 'unsupported', detail };
  }

  #onMessage(text: string, layout: Layout): void {
    const event = readMessage(text, (lock) => layout.keyOf(lock));
    if (event === null) return;
    if (event.is === 'granted' && this.#settings.minReplicas > 0) {
      // WAIT covers the writes of its own connection alone: claiming again is a write, and is waited for.
      this.#on({ is: 'available', key: event.key });
    } else {
      this.#on(event);
    }
  }

  #opened(): Session {
    if (this.#session === null) throw new Error('the redis store is not open');
    return this.#session;
  }
}

async function succeeds(promise: Promise<void>): Promise<boolean> {
  try {
    await promise;
    return true;
  } catch {
    return false;
  }
}

async function end({ client, listener }: Session): Promise<void> {
  listener.close();
  await client.close();
}

/** Which claims are renewed together: those of one slot, and so many of them. */
function runsOf(
  claims: readonly Claim[],
  slotOf: (key: string) => number,
): { readonly slot: number; readonly indices: number[] }[] {
  const runs: { readonly slot: number; readonly indices: number[] }[] = [];
  const open = new Map<number, number[]>();
  for (const [index, { key }] of claims.entries()) {
    const slot = slotOf(key);
    const indices = open.get(slot);
    if (indices !== undefined && indices.length < MAX_RENEWALS) {
      indices.push(index);
    } else {
      const begun = [index];
      open.set(slot, begun);
      runs.push({ slot, indices: begun });
    }
  }
  return runs;
}

function claimText({ owner, units, capacity, ttlMs, wait }: Claim): string {
  return `c${units} ${capacity} ${ttlMs} ${wait ? 1 : 0} ${owner}`;
}
