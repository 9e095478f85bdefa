/**
 * The caller's reducer, run on a state and some messages: all at once, and one by one when that throws.
 */
import type { Base } from './kept.ts';
import type { Item } from './message.ts';
import type { Reduction } from './options.ts';
import type { Failure } from './settling.ts';

/** What the reducer made of some messages. */
export interface Reduced {
  readonly text: string;
  readonly state: unknown;
  readonly done: readonly Item[];
  readonly failures: readonly Failure[];
}

const NONE: readonly Failure[] = [];

export class Reducer {
  readonly #reduction: Reduction;

  constructor(reduction: Reduction) {
    this.#reduction = reduction;
  }

  /**
   * All at once, and if the reducer throws, one after the other: so only those fail that throw by themselves. Gives a promise
   * only for a reducer that does.
   */
  reduce(base: Base, items: readonly Item[]): Reduced | Promise<Reduced> {
    try {
      const state = base.state === undefined ? this.#decode(base.text) : base.state;
      const result = this.#reduction.reduce(state, items);
      if (!isPromise(result)) return this.#all(result, items);
      return this.#resolved(result, base, items);
    } catch (cause) {
      return this.#afterThrow(cause, base, items);
    }
  }

  async #resolved(result: Promise<unknown>, base: Base, items: readonly Item[]): Promise<Reduced> {
    try {
      return this.#all(await result, items);
    } catch (cause) {
      return this.#afterThrow(cause, base, items);
    }
  }

  #all(state: unknown, items: readonly Item[]): Reduced {
    return { text: this.#encode(state), state, done: items, failures: NONE };
  }

  #afterThrow(cause: unknown, base: Base, items: readonly Item[]): Reduced | Promise<Reduced> {
    const [item] = items;
    if (item === undefined || items.length > 1) return this.#singly(base, items);
    return { text: '', state: null, done: [], failures: [{ item, cause }] };
  }

  async #singly(base: Base, items: readonly Item[]): Promise<Reduced> {
    let { text } = base;
    const done: Item[] = [];
    const failures: Failure[] = [];
    for (const item of items) {
      try {
        // From the text each time: a reducer that threw may have left a state half changed.
        text = this.#encode(await this.#reduction.reduce(this.#decode(text), [item]));
        done.push(item);
      } catch (cause) {
        failures.push({ item, cause });
      }
    }
    return { text: text ?? '', state: undefined, done, failures };
  }

  #encode(state: unknown): string {
    const text = this.#reduction.codec.encode(state);
    if (typeof text !== 'string') throw new TypeError('the reducer returned what cannot be stored');
    return text;
  }

  #decode(text: string | null): unknown {
    return text === null ? null : this.#reduction.codec.decode(text);
  }
}

/** Asynchronous reducers are waited for, and synchronous ones cost no turn of the queue. */
export function isPromise<T>(value: T | Promise<T>): value is Promise<T> {
  return typeof (value as Partial<Promise<T>> | null)?.then === 'function';
}
