/**
 * One attempt to win a claim: one proposed epoch, sent to all nodes at once, settled as soon as it is decided.
 *
 * Only acceptances of this one attempt count, and a node that accepts it after it was lost is told so at once: no node
 * keeps what nobody holds.
 */
import { type Attempt, operationOf } from './attempt.ts';
import { type Asker, type RedlockNode, UNHEARD } from './node.ts';
import { readVote, type Vote } from './votes.ts';
import { type Watch, Watched } from './watch.ts';

export interface Lost {
  readonly is: 'lost';
  readonly votes: readonly Vote[];
  readonly tookMs: number;
}

export type RoundResult = { readonly is: 'won'; readonly wanted: boolean } | Lost;

export interface ClaimRoundParts {
  readonly nodes: readonly RedlockNode[];
  readonly quorum: number;
  readonly watch: Watch;
  readonly attempt: Attempt;
  /** Whether it queues where it is not accepted. */
  readonly wait: boolean;
  readonly timeoutMs: number;
  readonly onAbstention: () => void;
  /** Called once. May not throw. */
  readonly onEnd: (result: RoundResult) => void;
}

export class ClaimRound extends Watched implements Asker {
  readonly #parts: ClaimRoundParts;
  /** By the nodes' numbers. */
  readonly #votes: (Vote | undefined)[] = [];
  #answered = 0;
  #accepted = 0;
  #isWanted = false;
  #state: 'open' | 'won' | 'lost' = 'open';

  constructor(parts: ClaimRoundParts) {
    super();
    this.#parts = parts;
    parts.watch.begin(this, parts.timeoutMs);
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
    if (vote.is === 'accepted' && !vote.isVouched) node.vouch();
    if (this.#state === 'lost' && vote.is === 'accepted') this.#end(node, false);
    if (this.#state !== 'open') return;
    this.#votes[node.index] = vote;
    this.#answered += 1;
    if (vote.is === 'accepted') {
      this.#accepted += 1;
      this.#isWanted ||= vote.wanted;
    }
    const { nodes, quorum } = this.#parts;
    if (this.#accepted === quorum) this.#win();
    else if (this.#accepted + nodes.length - this.#answered < quorum) this.#lose();
  }

  override onOverdue(): void {
    this.#lose();
  }

  #win(): void {
    this.#state = 'won';
    this.#parts.watch.end(this);
    this.#parts.onEnd({ is: 'won', wanted: this.#isWanted });
  }

  #lose(): void {
    if (this.#state !== 'open') return;
    this.#state = 'lost';
    const { nodes, wait, watch, timeoutMs, onEnd } = this.#parts;
    watch.end(this);
    const votes: Vote[] = [];
    for (const node of nodes) {
      const vote = this.#votes[node.index];
      votes.push(vote ?? { is: 'silent', cause: new Error('it did not answer in time') });
      // Those that have not answered, or not so that it can be believed, may have accepted.
      if (vote === undefined || vote.is === 'silent') this.#end(node, false);
      if (vote?.is === 'accepted') this.#end(node, wait);
    }
    onEnd({ is: 'lost', votes, tookMs: performance.now() - this.dueMs + timeoutMs });
  }

  #end(node: RedlockNode, wait: boolean): void {
    const { attempt } = this.#parts;
    node.ask(attempt.lock, operationOf(wait ? 'l' : 'L', attempt), UNHEARD);
  }
}
