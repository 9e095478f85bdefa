/**
 * What this store knows of its own claims, and of the lines in which they stand.
 *
 * As long as the process lives, its session keeps every node. So a claim that falls silent has to
 * be ended from here: by its ttl, as every store does it.
 */
import { newAlarm, systemClock } from '../core/clock.ts';
import type { Claim, DropOutcome } from '../core/store.ts';
import { lineOf } from './nodes.ts';
import type { Session } from './session.ts';

/** A node that could not be removed is tried again after this time. */
const REMOVE_AGAIN_MS = 500;

/** A claim that has a node in its line, or may have. */
export interface Entry {
  readonly claim: Claim;
  readonly line: Line;
  readonly session: Session;
  /** Null as long as no creation was answered. */
  path: string | null;
  /** How many nodes were made before it in its line, and the transaction that made it. */
  arrival: number;
  epoch: bigint;
  isHeld: boolean;
  /** Nobody stands before it: all that came earlier is gone. */
  isFirst: boolean;
  /** That was known without a look at the line. */
  wasKnown: boolean;
  /** A creation was not answered: there may be a node. */
  isInDoubt: boolean;
  /** The creation that is under way, and what it found. */
  entering: Promise<readonly string[] | null> | null;
  /**
   * A node that is not known is looked for, to remove it. Claims wait for that: what they made
   * meanwhile would be nobody's.
   */
  leaving: Promise<DropOutcome> | null;
  /** Whose change it waits for. */
  watched: string | null;
  /** What is watched is all that stands before it. */
  isNext: boolean;
  /** Without another call until then, it is not wanted any more. */
  expiresAtMs: number;
}

/** What is known of the line of a key in which this store stands. */
export interface Line {
  readonly key: string;
  readonly path: string;
  readonly entries: Set<Entry>;
  /** Somebody else was seen waiting. */
  isWanted: boolean;
  /** The next change of the line is told to the holder here. */
  isListening: boolean;
  /** Nodes that were ever made in the line, as far as was looked, and those of this store since. */
  arrivals: number | null;
  ownArrivals: number;
}

export class Entries {
  readonly #root: string;
  readonly #onSilent: (entry: Entry) => void;
  readonly #byOwner = new Map<string, Entry>();
  /** By the path of their nodes. */
  readonly #lines = new Map<string, Line>();
  /** For whichever claim falls silent next. */
  readonly #alarm = newAlarm(systemClock, () => this.#expire(), false);

  constructor(root: string, onSilent: (entry: Entry) => void) {
    this.#root = root;
    this.#onSilent = onSilent;
  }

  add(claim: Claim, session: Session): Entry {
    const path = lineOf(this.#root, claim.key);
    let line = this.#lines.get(path);
    if (line === undefined) {
      const unknown = { isWanted: false, isListening: false, arrivals: null, ownArrivals: 0 };
      line = { key: claim.key, path, entries: new Set(), ...unknown };
      this.#lines.set(path, line);
    }
    const entry: Entry = {
      claim,
      line,
      session,
      path: null,
      arrival: 0,
      epoch: 0n,
      isHeld: false,
      isFirst: false,
      wasKnown: false,
      isInDoubt: false,
      entering: null,
      leaving: null,
      watched: null,
      isNext: false,
      expiresAtMs: Infinity,
    };
    line.entries.add(entry);
    this.#byOwner.set(claim.owner, entry);
    this.keep(entry);
    return entry;
  }

  get(owner: string): Entry | undefined {
    return this.#byOwner.get(owner);
  }

  has(owner: string): boolean {
    return this.#byOwner.has(owner);
  }

  /** Those that there are now. */
  all(): Entry[] {
    return [...this.#byOwner.values()];
  }

  line(path: string): Line | undefined {
    return this.#lines.get(path);
  }

  remove(entry: Entry): void {
    const { line, claim } = entry;
    if (this.#byOwner.get(claim.owner) === entry) this.#byOwner.delete(claim.owner);
    line.entries.delete(entry);
    if (line.entries.size === 0 && this.#lines.get(line.path) === line) {
      this.#lines.delete(line.path);
    }
  }

  /** It is wanted for another ttl. */
  keep(entry: Entry): void {
    entry.expiresAtMs = systemClock.monotonicMs() + entry.claim.ttlMs;
    this.#alarm.within(entry.claim.ttlMs);
  }

  clear(): void {
    this.#alarm.stop();
    this.#byOwner.clear();
    this.#lines.clear();
  }

  #expire(): void {
    const nowMs = systemClock.monotonicMs();
    let nextMs = Infinity;
    for (const entry of this.all()) {
      if (entry.expiresAtMs <= nowMs) {
        // Tried again until it is answered, or the session ends.
        entry.expiresAtMs = nowMs + REMOVE_AGAIN_MS;
        this.#onSilent(entry);
      }
      nextMs = Math.min(nextMs, entry.expiresAtMs);
    }
    if (nextMs < Infinity) this.#alarm.within(nextMs - nowMs);
  }
}
