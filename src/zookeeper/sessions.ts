/**
 * The sessions of a store: one for each time-out that its claims need.
 *
 * Locks are ephemeral nodes, which end with their session. So a session must outlive every lease
 * that it carries: its time-out is the lease's ttl and two ticks. The servers learn up to a tick
 * late that a session was heard of (followers tell the leader when it pings them, and the store is
 * silent for a tick at the most), and they count in ticks.
 */
import { type ClientModule, loadClient } from './client.ts';
import type { Settings } from './options.ts';
import { Session, type SessionEvents } from './session.ts';

/** A session that is longer than needed is used when it is at the most so many times as long. */
const MAX_STRETCH = 2;
const LEAST_TIMEOUT_MS = 1;
const LONGEST_TIMEOUT_MS = 2 ** 31 - 1;

type EventsOf = (session: () => Session) => SessionEvents;

export class Sessions {
  readonly #settings: Settings;
  readonly #module: ClientModule;
  readonly #eventsOf: EventsOf;
  /** The shortest time-out that the servers grant: two ticks, unless somebody has set it. */
  readonly #minMs: number;
  /** The longest, once they refused a longer one. */
  #maxMs = LONGEST_TIMEOUT_MS;
  #open: Session[] = [];

  private constructor(parts: {
    readonly settings: Settings;
    readonly module: ClientModule;
    readonly minMs: number;
    readonly eventsOf: EventsOf;
  }) {
    this.#settings = parts.settings;
    this.#module = parts.module;
    this.#minMs = parts.minMs;
    this.#eventsOf = parts.eventsOf;
  }

  /** Asks the servers what two ticks are. Rejects when none answers. */
  static async open(settings: Settings, eventsOf: EventsOf): Promise<Sessions> {
    const module = await loadClient();
    const nothing = (): void => {};
    const probe = new Session({
      module,
      settings,
      timeoutMs: LEAST_TIMEOUT_MS,
      keepAliveMs: settings.requestTimeoutMs,
      events: { reconnected: nothing, expired: nothing, watched: nothing },
    });
    try {
      await probe.connected();
      return new Sessions({ settings, module, minMs: probe.timeoutMs, eventsOf });
    } finally {
      void probe.end();
    }
  }

  get all(): readonly Session[] {
    return this.#open.filter((session) => !session.isOver);
  }

  /**
   * A session that outlives a lease with that ttl, connected; or in a sentence why there can be
   * none. Rejects when no server answers.
   */
  async for(ttlMs: number): Promise<Session | string> {
    const { leastMs, neededMs } = this.#needs(ttlMs);
    if (neededMs < leastMs) return this.#refusal(ttlMs);
    this.#open = [...this.all];
    const session = this.#fitting(ttlMs) ?? this.#begin(neededMs);
    await session.connected();
    if (session.timeoutMs >= leastMs) return session;
    this.#maxMs = session.timeoutMs;
    return this.#refusal(ttlMs);
  }

  /** The same at once, when there is one and it is connected. */
  ready(ttlMs: number): Session | undefined {
    const session = this.#fitting(ttlMs);
    return session?.isConnected ? session : undefined;
  }

  /** A connection that was made again may have been granted less than the one before. */
  outlives({ timeoutMs }: Session, ttlMs: number): boolean {
    return timeoutMs >= ttlMs + this.#minMs;
  }

  /** Any session that there is, or a new one. */
  any(): Session {
    return this.all[0] ?? this.#begin(this.#settings.sessionTimeoutMs ?? this.#minMs);
  }

  /** Sessions that carry nothing end; the others are left to their time-out. */
  async close(isInUse: (session: Session) => boolean): Promise<void> {
    const closing = this.all.map(async (session) => {
      if (isInUse(session)) session.abandon();
      else await session.end();
    });
    await Promise.all(closing);
  }

  #needs(ttlMs: number): { readonly leastMs: number; readonly neededMs: number } {
    const leastMs = ttlMs + this.#minMs;
    const neededMs = Math.min(this.#settings.sessionTimeoutMs ?? leastMs, this.#maxMs);
    return { leastMs, neededMs };
  }

  #fitting(ttlMs: number): Session | undefined {
    const { leastMs, neededMs } = this.#needs(ttlMs);
    return this.#open.find(
      ({ timeoutMs, isOver }) =>
        !isOver && timeoutMs >= leastMs && timeoutMs <= neededMs * MAX_STRETCH,
    );
  }

  #refusal(ttlMs: number): string {
    const { sessionTimeoutMs } = this.#settings;
    const [minMs, maxMs] = [this.#minMs, this.#maxMs];
    const bounds =
      maxMs === LONGEST_TIMEOUT_MS ? `of at least ${minMs} ms` : `of ${minMs} to ${maxMs} ms`;
    const own = sessionTimeoutMs === null ? '' : `, sessionTimeoutMs is ${sessionTimeoutMs}`;
    const longestMs = Math.min(sessionTimeoutMs ?? maxMs, maxMs) - minMs;
    return (
      `a ttlMs of ${ttlMs} is too long: these servers grant sessions ${bounds}${own}, and a lease is two ticks ` +
      `(${minMs} ms) shorter than its session; use at most ${longestMs}`
    );
  }

  #begin(timeoutMs: number): Session {
    const session: Session = new Session({
      module: this.#module,
      settings: this.#settings,
      timeoutMs,
      keepAliveMs: this.#minMs / 2,
      events: this.#eventsOf(() => session),
    });
    this.#open.push(session);
    return session;
  }
}
