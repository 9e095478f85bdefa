/**
 * The names of a store's keys and channels.
 *
 * The lock key is the prefix and the name, and nothing else, so that clients in other languages find it. What stands
 * beside it begins with `leasehold:`. Where slots matter, it carries the tag of the lock's slot.
 */
import { slotOf, tagOf } from './slots.ts';

/** The start of the names of everything that the package keeps beside locks. */
const OURS = 'leasehold:';

/** A lock that is named like what stands beside locks would be taken for it, with an empty prefix or half of one. */
export function isTaken(lock: string): boolean {
  return lock.startsWith(OURS);
}

export const NAME_TAKEN: string = `names of Redis that begin with ${OURS} are taken: choose another key, or another prefix`;

export interface KeyNames {
  readonly lock: string;
  readonly members: string;
  readonly order: string;
}

export class Layout {
  readonly prefix: string;
  readonly isCluster: boolean;
  readonly #nonce: string;

  constructor(parts: {
    readonly prefix: string;
    readonly isCluster: boolean;
    readonly nonce: string;
  }) {
    this.prefix = parts.prefix;
    this.isCluster = parts.isCluster;
    this.#nonce = parts.nonce;
  }

  /** On a server that is not part of a cluster, everything is in slot 0. */
  slotOf(key: string): number {
    return this.isCluster ? slotOf(this.prefix + key) : 0;
  }

  namesOf(key: string, slot: number): KeyNames {
    const lock = this.prefix + key;
    const tag = this.#tag(slot);
    return { lock, members: `leasehold:m:${tag}${lock}`, order: `leasehold:o:${tag}${lock}` };
  }

  /** The keys of a state that a run names: see scripts/state.ts, which makes the others itself where there is one server. */
  stateNamesOf(key: string, slot: number): [string, ...string[]] {
    const state = this.prefix + key;
    if (!this.isCluster) return [state];
    const rest = this.#tag(slot) + state;
    const generations = [1, 2, 3].map((generation) => `leasehold:i${generation}:${rest}`);
    return [state, `leasehold:d:${rest}`, ...generations];
  }

  /** The keys of an outbox: see scripts/outbox.ts. */
  outboxNamesOf(name: string): string[] {
    const slot = this.isCluster ? slotOf(name) : 0;
    return ['entries', 'due', 'changed'].map(
      (part) => `leasehold:outbox:${this.#tag(slot)}${name}:${part}`,
    );
  }

  /** Where the last epoch of every lock of a slot is remembered. */
  epochKeyOf(slot: number): string {
    return `leasehold:epoch${this.#tag(slot)}`;
  }

  /** Where this store hears what concerns the locks of a slot. The scripts tell the two kinds by their second part. */
  channelOf(slot: number): string {
    return this.isCluster
      ? `leasehold:s:${this.#nonce}:${this.#tag(slot)}`
      : `leasehold:p:${this.#nonce}`;
  }

  /** The name of the lock whose key that is. */
  keyOf(lock: string): string {
    return lock.slice(this.prefix.length);
  }

  #tag(slot: number): string {
    return this.isCluster ? `{${tagOf(slot)}}` : '';
  }
}

export function newNonce(): string {
  const parts = crypto.getRandomValues(new Uint32Array(3));
  return Array.from(parts, (part) => part.toString(36).padStart(7, '0')).join('');
}
