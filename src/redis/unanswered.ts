/**
 * Claims that were not answered in time, and may be executed later than what was called since: a client of a Cluster
 * holds back what was refused while the cluster was down, or went to a node that does not have the slot any more.
 *
 * A drop that such a claim comes after is made again, or nobody would hold the key until the end of its ttl.
 */
import type { ClaimId } from '../core/store.ts';
import { RequestTimeoutError } from './within.ts';

interface Late {
  claims: number;
  isDropped: boolean;
}

export class Unanswered {
  readonly #dropAgain: (claim: ClaimId) => void;
  readonly #owners = new Map<string, Late>();

  constructor(dropAgain: (claim: ClaimId) => void) {
    this.#dropAgain = dropAgain;
  }

  /** A claim was rejected with `cause`. */
  add(claim: ClaimId, cause: unknown): void {
    if (!(cause instanceof RequestTimeoutError)) return;
    const { owner } = claim;
    const late = this.#owners.get(owner) ?? { claims: 0, isDropped: false };
    this.#owners.set(owner, late);
    late.claims += 1;
    const settled = (): void => {
      late.claims -= 1;
      if (late.claims === 0) this.#owners.delete(owner);
      if (late.isDropped) this.#dropAgain(claim);
    };
    cause.late.then(settled, settled);
  }

  dropped({ owner }: ClaimId): void {
    const late = this.#owners.get(owner);
    if (late !== undefined) late.isDropped = true;
  }
}
