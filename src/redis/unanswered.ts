/**
 * Claims that were not answered in time, and may be executed later than what was called since: a client of a Cluster
 * holds back what was refused while the cluster was down, or went to a node that does not have the slot any more.
 *
 * When such a claim came after its drop, the core is told of a grant that it does not know, as of one by somebody else's
 * drop, and drops it again. Otherwise the key would stay taken, for nobody, until the end of its ttl.
 */
import type { ClaimId, StoreEvent } from '../core/store.ts';
import { RequestTimeoutError } from './within.ts';

interface Late {
  claims: number;
  isDropped: boolean;
}

export class Unanswered {
  readonly #on: (event: StoreEvent) => void;
  readonly #owners = new Map<string, Late>();

  constructor(on: (event: StoreEvent) => void) {
    this.#on = on;
  }

  /** A claim was rejected with `cause`. */
  add(claim: ClaimId, cause: unknown): void {
    if (!(cause instanceof RequestTimeoutError)) return;
    const { key, owner } = claim;
    const late = this.#owners.get(owner) ?? { claims: 0, isDropped: false };
    this.#owners.set(owner, late);
    late.claims += 1;
    const settled = (): void => {
      late.claims -= 1;
      if (late.claims === 0) this.#owners.delete(owner);
      if (late.isDropped) this.#on({ is: 'granted', key, owner, epoch: 0n, wanted: false });
    };
    cause.late.then(settled, settled);
  }

  dropped({ owner }: ClaimId): void {
    const late = this.#owners.get(owner);
    if (late !== undefined) late.isDropped = true;
  }
}
