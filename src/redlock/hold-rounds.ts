/**
 * One attempt to renew a lease on all nodes, and one to drop it.
 */
import { validityMs } from '../core/clock.ts';
import type { RenewOutcome } from '../core/store.ts';
import { numberOf, UnreadableAnswerError } from '../redis/answers.ts';
import { type Attempt, operationOf, renewalOf } from './attempt.ts';
import { NoQuorumError } from './errors.ts';
import { type Asker, type RedlockNode, UNHEARD } from './node.ts';
import type { Runs } from './runs.ts';
import { type Watch, Watched } from './watch.ts';

export interface RoundParts {
  readonly nodes: readonly RedlockNode[];
  readonly quorum: number;
  readonly runs: Runs;
  readonly watch: Watch;
  readonly timeoutMs: number;
}

/** Counts who has said yes, no, and nothing. */
abstract class Round<Outcome> extends Watched implements Asker {
  readonly result: Promise<Outcome>;
  protected readonly parts: RoundParts;
  protected yes = 0;
  protected readonly no: RedlockNode[] = [];
  protected readonly failures: unknown[] = [];
  protected isOver = false;
  #resolve: (outcome: Outcome) => void = () => {};
  #reject: (cause: unknown) => void = () => {};

  constructor(parts: RoundParts) {
    super();
    this.parts = parts;
    this.result = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
    parts.watch.begin(this, parts.timeoutMs);
  }

  onAnswer(node: RedlockNode, answer: unknown): void {
    const isYes = this.isYes(answer);
    if (isYes) this.yes += 1;
    else if (isYes === false) this.no.push(node);
    else this.failures.push(new UnreadableAnswerError('a round'));
    this.#look(node);
  }

  onFailure(node: RedlockNode, cause: unknown): void {
    this.failures.push(cause);
    this.#look(node);
  }

  override onOverdue(): void {
    if (!this.isOver) this.atEnd();
  }

  /** `null` for what no script gives. */
  protected abstract isYes(answer: unknown): boolean | null;
  /** Settles as soon as the outcome is decided. */
  protected abstract decide(): void;
  /** Settles in any case: no more answers will count. */
  protected abstract atEnd(): void;
  /** An answer that came after the decision. */
  protected late(_node: RedlockNode): void {}

  protected settle(outcome: Outcome): void {
    this.isOver = true;
    this.parts.watch.end(this);
    this.#resolve(outcome);
  }

  protected fail(what: string): void {
    this.isOver = true;
    this.parts.watch.end(this);
    this.#reject(this.noQuorum(what));
  }

  protected noQuorum(what: string): NoQuorumError {
    return new NoQuorumError(what, this.answered, this.parts.nodes.length, this.failures);
  }

  protected get answered(): number {
    return this.yes + this.no.length;
  }

  #look(node: RedlockNode): void {
    if (this.isOver) {
      this.late(node);
      return;
    }
    this.decide();
    if (this.isOver) return;
    if (this.answered + this.failures.length === this.parts.nodes.length) this.atEnd();
  }
}

/** Held when a majority still had it: a node that has lost it does not count, whatever it would accept. */
export class RenewRound extends Round<RenewOutcome> {
  readonly #held: Attempt;
  #wanted = false;
  #isHeld = false;

  constructor(parts: RoundParts, held: Attempt) {
    super(parts);
    this.#held = held;
    parts.runs.ask(this, held.lock, renewalOf(held));
  }

  protected override isYes(answer: unknown): boolean | null {
    const said = numberOf(answer);
    this.#wanted ||= said === 2;
    return said === 1 || said === 2 || (said === 0 ? false : null);
  }

  protected override decide(): void {
    const { nodes, quorum } = this.parts;
    if (this.yes >= quorum) {
      this.#isHeld = true;
      this.settle({ is: 'held', wanted: this.#wanted });
      for (const node of this.no) this.#fill(node);
    } else if (nodes.length - this.no.length < quorum) {
      this.settle({ is: 'lost' });
    }
  }

  protected override atEnd(): void {
    this.settle({ is: 'unknown', cause: this.noQuorum('a renewal') });
  }

  protected override late(node: RedlockNode): void {
    if (this.#isHeld && this.no.includes(node)) this.#fill(node);
  }

  /** The lease has just been confirmed: while that lasts, a node where the lock is free may have it too. */
  #fill(node: RedlockNode): void {
    const { lock, ttlMs } = this.#held;
    const startedMs = this.dueMs - this.parts.timeoutMs;
    if (performance.now() - startedMs >= validityMs(ttlMs)) return;
    node.ask(lock, operationOf('f', this.#held), UNHEARD);
  }
}

/** The claim is gone as soon as a majority says so; whether it was held may take longer to say. */
export class DropRound extends Round<boolean> {
  readonly #isHeld: boolean;

  /** `isHeld`: a majority is expected to have it. Otherwise every node is waited for. */
  constructor(parts: RoundParts, isHeld: boolean) {
    super(parts);
    this.#isHeld = isHeld;
  }

  protected override isYes(answer: unknown): boolean | null {
    const said = numberOf(Array.isArray(answer) ? answer[0] : answer);
    return said === 1 || (said === 0 ? false : null);
  }

  protected override decide(): void {
    if (this.#isHeld && this.yes >= this.parts.quorum) this.settle(true);
  }

  protected override atEnd(): void {
    const { quorum } = this.parts;
    if (this.answered >= quorum) this.settle(this.yes >= quorum);
    else this.fail('a drop');
  }
}
