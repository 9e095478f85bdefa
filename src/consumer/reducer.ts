/**
 * The caller's reducer, run on a state and some messages: all at once, and one by one when that throws.
 */
import type { Base } from './kept.ts';
import type { Item } from './message.ts';
import type { Reduction } from './options.ts';
import type { Failure } from './settling.ts';
import { isPromise } from './work.ts';

/** What the reducer made of some messages. */
export interface Reduced {
  readonly text: string;
  readonly state: unknown;
  readonly done: readonly Item[];
  readonly failures: readonly Failure[];
}

export class Reducer {
  readonly #reduction: Reduction;

  constructor(reduction: Reduction) {
    this.#reduction = reduction;
  }

  /** All at once, and if the reducer throws, one after the other: so only those fail that throw by themselves. */
  async reduce(base: Base, items: readonly Item[]): Promise<Reduced> {
    try {
      const state = base.state === undefined ? this.#decode(base.text) : base.state;
      return { ...(await this.#step(state, items)), done: items, failures: [] };
    } catch (cause) {
      if (items.length === 1) {
        return { text: '', state: null, done: [], failures: [{ item: items[0] as Item, cause }] };
      }
    }
    let { text } = base;
    const done: Item[] = [];
    const failures: Failure[] = [];
    for (const item of items) {
      try {
        // From the text each time: a reducer that threw may have left a state half changed.
        ({ text } = await this.#step(this.#decode(text), [item]));
        done.push(item);
      } catch (cause) {
        failures.push({ item, cause });
      }
    }
    return { text: text ?? '', state: undefined, done, failures };
  }

  async #step(
    before: unknown,
    items: readonly Item[],
  ): Promise<{ readonly text: string; readonly state: unknown }> {
    const result = this.#reduction.reduce(before, items);
    const state = isPromise(result) ? await result : result;
    const text = this.#reduction.codec.encode(state);
    if (typeof text !== 'string') throw new TypeError('the reducer returned what cannot be stored');
    return { text, state };
  }

  #decode(text: string | null): unknown {
    return text === null ? null : this.#reduction.codec.decode(text);
  }
}
