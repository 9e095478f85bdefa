/**
 * One attempt to win a claim: one proposed epoch, sent to all nodes at once, settled as soon as it is decided.
 *
 * Only acceptances of this one attempt count, and a node that accepts it after it was lost is told so at once: no node
 * keeps what nobody holds.
 */
import type { Claim } from '../core/store.ts';
import type { KeyNames } from '../redis/layout.ts';
import type { Asker, RedlockNode } from './node.ts';
import { readVote, type Vote } from './votes.ts';

const UNHEARD: Asker = { onAnswer() {}, onFailure() {} };

export interface Lost {
  readonly is: 'lost';
  readonly votes: readonly Vote[];
  readonly tookMs: number;
}

export type RoundResult = { readonly is: 'won'; readonly wanted: boolean } | Lost;

export interface ClaimRoundParts {
  readonly nodes: readonly RedlockNode[];
  readonly quorum: number;
  readonly names: KeyNames;
  readonly claim: Claim;
  readonly epoch: number;
  readonly timeoutMs: number;
  readonly onAbstention: () => void;
}

export class ClaimRound implements Asker {
  readonly result: Promise<RoundResult>;
  readonly #parts: ClaimRoundParts;
  readonly #votes = new Map<RedlockNode, Vote>();
  readonly #startedMs: number = performance.now();
  readonly #timer: NodeJS.Timeout;
  #accepted = 0;
  #state: 'open' | 'won' | 'lost' = 'open';
  #settle: (result: RoundResult) => void = () => {};

  constructor(parts: ClaimRoundParts) {
    this.#parts = parts;
    this.result = new Promise((resolve) => {
      this.#settle = resolve;
    });
    this.#timer = setTimeout(() => this.#lose(), parts.timeoutMs);
    // Whoever waits for the claim holds the process open.
    this.#timer.unref();
  }

  onAnswer(node: RedlockNode, answer: unknown): void {
    this.onVote(node, readVote(answer));
  }

  onFailure(node: RedlockNode, cause: unknown): void {
    this.onVote(node, { is: 'silent', cause });
  }

  onVote(node: RedlockNode, vote: Vote): void {
    if (vote.is === 'busy' && !vote.isHeard) node.distrustListener();
    if (vote.is === 'abstains') this.#parts.onAbstention();
    if (this.#state === 'lost' && vote.is === 'accepted') this.#end(node, false);
    if (this.#state !== 'open') return;
    this.#votes.set(node, vote);
    if (vote.is === 'accepted') this.#accepted += 1;
    const { nodes, quorum } = this.#parts;
    if (this.#accepted === quorum) this.#win();
    else if (this.#accepted + nodes.length - this.#votes.size < quorum) this.#lose();
  }

  #win(): void {
    this.#state = 'won';
    clearTimeout(this.#timer);
    let wanted = false;
    for (const vote of this.#votes.values()) if (vote.is === 'accepted') wanted ||= vote.wanted;
    this.#settle({ is: 'won', wanted });
  }

  #lose(): void {
    if (this.#state !== 'open') return;
    this.#state = 'lost';
    clearTimeout(this.#timer);
    const { nodes, claim } = this.#parts;
    const votes: Vote[] = [];
    for (const node of nodes) {
      const vote = this.#votes.get(node);
      votes.push(vote ?? { is: 'silent', cause: new Error('it did not answer in time') });
      // Those that have not answered, or not so that it can be believed, may have accepted.
      if (vote === undefined || vote.is === 'silent') this.#end(node, false);
      if (vote?.is === 'accepted') this.#end(node, claim.wait);
    }
    this.#settle({ is: 'lost', votes, tookMs: performance.now() - this.#startedMs });
  }

  #end(node: RedlockNode, wait: boolean): void {
    const { claim, names, epoch } = this.#parts;
    const { owner, capacity, ttlMs } = claim;
    node.ask(names, [`l${epoch} 0 ${capacity} ${ttlMs} ${wait ? 1 : 0} ${owner}`], UNHEARD);
  }
}

/** The operation of a claim: see scripts/step.ts. */
export function claimOf(claim: Claim, epoch: number, slot: number): string {
  const { owner, capacity, ttlMs, wait } = claim;
  return `c${epoch} ${slot} ${capacity} ${ttlMs} ${wait ? 1 : 0} ${owner}`;
}
