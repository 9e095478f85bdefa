/**
 * Who waits for a change of which node. One watch of the server serves all claims of this store
 * that wait for the same node, and one release wakes one of them.
 */
import { CODES } from './client.ts';
import type { Entry } from './entries.ts';
import { type Place, readLine } from './nodes.ts';
import * as requests from './requests.ts';
import { codeOf } from './session.ts';

export class Watches {
  /** By the path of the node. */
  readonly #waiting = new Map<string, Set<Entry>>();

  /**
   * Waits for what can let the entry go on: a lock for its predecessor, a reader for the last
   * writer before it, the first that waits for a permit for any change of the line, and who stands
   * behind that one for its predecessor. False when that has changed already: look again.
   */
  async set(
    entry: Entry,
    line: readonly Place[],
    { place, holders }: { readonly place: number; readonly holders: number },
  ): Promise<boolean> {
    const { claim, session } = entry;
    let target = place - 1;
    if (claim.units < claim.capacity) {
      const last = line.slice(0, place).findLastIndex(({ units, capacity }) => units === capacity);
      if (last !== -1) target = last;
      else if (place === holders) target = -1;
    }
    const before = line[target];
    const path = before === undefined ? entry.line.path : `${entry.line.path}/${before.name}`;
    entry.isNext = claim.units === claim.capacity && place === 1;
    if (entry.watched === path) return true;
    this.end(entry);
    entry.watched = path;
    const waiting = this.#waiting.get(path) ?? new Set();
    this.#waiting.set(path, waiting.add(entry));
    try {
      if (before !== undefined) {
        await session.send(requests.watch(path));
        return true;
      }
      // A line that has changed since the look will not tell of that change.
      const { names } = await session.send(requests.children(path, true));
      if (isSame(line, readLine(names))) return true;
    } catch (error) {
      if (codeOf(error) !== CODES.noNode) {
        this.end(entry);
        throw error;
      }
    }
    this.end(entry);
    return false;
  }

  end(entry: Entry): void {
    if (entry.watched === null) return;
    const waiting = this.#waiting.get(entry.watched);
    waiting?.delete(entry);
    if (waiting?.size === 0) this.#waiting.delete(entry.watched);
    entry.watched = null;
  }

  /**
   * The node has changed, and its watch is used up: these have waited for it, and do so no more.
   */
  fired(path: string): readonly Entry[] {
    const waiting = [...(this.#waiting.get(path) ?? [])];
    this.#waiting.delete(path);
    for (const entry of waiting) entry.watched = null;
    return waiting;
  }

  clear(): void {
    this.#waiting.clear();
  }
}

/** Arrivals count up: as many places with the same last one are the same places. */
function isSame(line: readonly Place[], other: readonly Place[]): boolean {
  return line.length === other.length && line.at(-1)?.name === other.at(-1)?.name;
}
