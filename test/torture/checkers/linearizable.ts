/**
 * Whether a history is linearizable: whether each operation could have taken effect at one moment between its call and
 * its return, in an order that the model allows.
 *
 * The search is that of Wing and Gong, "Testing and verifying concurrent objects" (1993), with the memory of
 * configurations by Lowe, "Testing for linearizability" (2017): an operation that could be next is taken out of the
 * history, and put back when that led nowhere; no pair of operations done and state reached is looked at twice. Histories of
 * different objects are checked each for itself (Herlihy and Wing's locality; Horn and Kroening, "Faster linearizability
 * checking via P-compositionality", 2015).
 */

export interface Operation<Input> {
  readonly id: string;
  readonly callUs: number;
  /** `Infinity` when the outcome is not known: it took effect at any time after the call, or never. */
  readonly returnUs: number;
  readonly input: Input;
}

/** What the object does. States are texts, so that equal ones are found again. */
export interface Model<Input> {
  readonly initial: string;
  /** The state after the operation; `null` when it cannot happen in this state. */
  step(state: string, input: Input): string | null;
}

export type Verdict =
  | { readonly is: 'linearizable' }
  /** The operation that no order could place before its return. */
  | { readonly is: 'not-linearizable'; readonly stuck: string }
  /** The search became too large. */
  | { readonly is: 'undecided' };

const MAX_CONFIGURATIONS = 1_000_000;

/** A call or a return in the list of what has not been placed yet. */
interface Entry {
  readonly operation: number;
  readonly isCall: boolean;
  readonly atUs: number;
  previous: Entry | null;
  next: Entry | null;
}

export function check<Input>(
  history: readonly Operation<Input>[],
  model: Model<Input>,
  maxConfigurations: number = MAX_CONFIGURATIONS,
): Verdict {
  const operations = history.toSorted((a, b) => a.callUs - b.callUs);
  const seen = new Configurations(operations);
  const { head, returns } = entriesOf(operations);
  const taken: { readonly entry: Entry; readonly state: string }[] = [];
  let state = model.initial;
  let entry = head.next;
  let stuck: Entry | null = null;
  // Once no return is left in the list, all that is certain has its place.
  while (entry !== null) {
    if (entry.isCall) {
      const { input } = operations[entry.operation] as Operation<Input>;
      const after = model.step(state, input);
      if (after !== null && seen.add(entry.operation, after)) {
        if (seen.size > maxConfigurations) return { is: 'undecided' };
        taken.push({ entry, state });
        state = after;
        takeOut(entry, returns);
        entry = head.next;
      } else {
        entry = entry.next;
      }
      continue;
    }
    // It has returned, and found no place before that: the last choice was wrong.
    if (stuck === null || entry.atUs > stuck.atUs) stuck = entry;
    const last = taken.pop();
    if (last === undefined) {
      return {
        is: 'not-linearizable',
        stuck: (operations[stuck.operation] as Operation<Input>).id,
      };
    }
    seen.undo(last.entry.operation);
    putBack(last.entry, returns);
    state = last.state;
    entry = last.entry.next;
  }
  return { is: 'linearizable' };
}

/** Which operations were placed, and the pairs of such a set and a state that were reached before. */
class Configurations {
  readonly #operations: readonly Operation<unknown>[];
  readonly #isPlaced: boolean[];
  /** The first operation whose outcome is known and that has no place. */
  #first = 0;
  /** Those of unknown outcome that were placed. */
  readonly #unknown = new Set<number>();
  readonly #seen = new Set<string>();

  constructor(operations: readonly Operation<unknown>[]) {
    this.#operations = operations;
    this.#isPlaced = operations.map(() => false);
    this.#advance();
  }

  get size(): number {
    return this.#seen.size;
  }

  /** Places the operation; false, and then it is not placed, when the same was reached before. */
  add(operation: number, state: string): boolean {
    this.#place(operation);
    const key = this.#key(state);
    if (this.#seen.has(key)) {
      this.undo(operation);
      return false;
    }
    this.#seen.add(key);
    return true;
  }

  undo(operation: number): void {
    this.#isPlaced[operation] = false;
    this.#unknown.delete(operation);
    if (this.#isKnown(operation) && operation < this.#first) this.#first = operation;
  }

  #place(operation: number): void {
    this.#isPlaced[operation] = true;
    if (!this.#isKnown(operation)) this.#unknown.add(operation);
    this.#advance();
  }

  #advance(): void {
    const { length } = this.#operations;
    while (this.#first < length && (this.#isPlaced[this.#first] || !this.#isKnown(this.#first))) {
      this.#first += 1;
    }
  }

  /** All before the first that has no place are placed; what was called after its return cannot be. */
  #key(state: string): string {
    const untilUs = this.#operations[this.#first]?.returnUs ?? -1;
    const beyond: number[] = [];
    for (let index = this.#first + 1; index < this.#operations.length; index += 1) {
      if ((this.#operations[index] as Operation<unknown>).callUs > untilUs) break;
      if (this.#isPlaced[index] && this.#isKnown(index)) beyond.push(index);
    }
    const unknown = [...this.#unknown].sort((a, b) => a - b);
    return `${this.#first};${beyond.join()};${unknown.join()};${state}`;
  }

  #isKnown(operation: number): boolean {
    return (this.#operations[operation] as Operation<unknown>).returnUs !== Infinity;
  }
}

/** All calls, and the returns of those that are known, in the order of time. */
function entriesOf(operations: readonly Operation<unknown>[]): {
  readonly head: Entry;
  readonly returns: ReadonlyMap<number, Entry>;
} {
  const entries: Entry[] = [];
  for (const [operation, { callUs, returnUs }] of operations.entries()) {
    entries.push({ operation, isCall: true, atUs: callUs, previous: null, next: null });
    if (returnUs === Infinity) continue;
    entries.push({ operation, isCall: false, atUs: returnUs, previous: null, next: null });
  }
  // What happens in the same microsecond counts as concurrent: calls come first.
  entries.sort((a, b) => a.atUs - b.atUs || Number(b.isCall) - Number(a.isCall));
  const head: Entry = { operation: -1, isCall: true, atUs: -Infinity, previous: null, next: null };
  let last = head;
  for (const entry of entries) {
    entry.previous = last;
    last.next = entry;
    last = entry;
  }
  const returns = new Map(
    entries.filter(({ isCall }) => !isCall).map((entry) => [entry.operation, entry]),
  );
  return { head, returns };
}

function takeOut(call: Entry, returns: ReadonlyMap<number, Entry>): void {
  unlink(call);
  const end = returns.get(call.operation);
  if (end !== undefined) unlink(end);
}

/** In the opposite order, so that each finds the neighbours that it had. */
function putBack(call: Entry, returns: ReadonlyMap<number, Entry>): void {
  const end = returns.get(call.operation);
  if (end !== undefined) link(end);
  link(call);
}

function unlink(entry: Entry): void {
  if (entry.previous !== null) entry.previous.next = entry.next;
  if (entry.next !== null) entry.next.previous = entry.previous;
}

function link(entry: Entry): void {
  if (entry.previous !== null) entry.previous.next = entry;
  if (entry.next !== null) entry.next.previous = entry;
}
