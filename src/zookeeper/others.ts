/**
 * How a holder learns that other processes want its key: not at all when it is quick, and by one
 * watch and one look when it is not, however many they are (docs/adr/0073).
 */
import type { StoreEvent } from '../core/store.ts';
import type { Payload } from './client.ts';
import type { Entries, Line } from './entries.ts';
import { countHolders, type Place, readLine } from './nodes.ts';
import * as requests from './requests.ts';
import type { Session } from './session.ts';

/** A lease that is still held after this time is told of newcomers: what is short is not. */
const LISTEN_AFTER_MS = 20;

export class Others {
  readonly #entries: Entries;
  readonly #on: (event: StoreEvent) => void;
  /** Lines that are held here and that nobody listens to yet. */
  readonly #unheard = new Set<Line>();
  #timer: NodeJS.Timeout | undefined;

  constructor(entries: Entries, on: (event: StoreEvent) => void) {
    this.#entries = entries;
    this.#on = on;
  }

  /** Whether somebody who does not belong to this store waits. */
  areWaiting(line: readonly Place[]): boolean {
    return line.slice(countHolders(line)).some(({ owner }) => !this.#entries.has(owner));
  }

  listenSoon(line: Line): void {
    if (line.isListening) return;
    this.#unheard.add(line);
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined;
      for (const one of this.#unheard) this.#listen(one).catch(() => {});
      this.#unheard.clear();
    }, LISTEN_AFTER_MS).unref();
  }

  /** Who leaves does not ask any more. */
  forget(line: Line): void {
    this.#unheard.delete(line);
  }

  /** Looks whether others want what is held here, and tells it; listens again when nobody does. */
  async look(line: Line): Promise<void> {
    if (await this.#hear(line)) this.listenSoon(line);
  }

  clear(): void {
    clearTimeout(this.#timer);
    this.#unheard.clear();
  }

  async #listen(line: Line): Promise<void> {
    if (!(await this.#hear(line))) return;
    line.isListening = true;
    try {
      await this.#hear(line, true);
    } catch (error) {
      line.isListening = false;
      throw error;
    }
  }

  /** True when the line is held here, nobody wants it, and nobody listens to it. */
  async #hear(line: Line, isWatched = false): Promise<boolean> {
    const session = sessionOf(line);
    if (session === undefined) return false;
    this.#heard(line, await session.send(requests.children(line.path, isWatched)));
    return !(line.isWanted || line.isListening);
  }

  #heard(line: Line, { children, stat }: Payload): void {
    // The count of changes is twice the count of arrivals, less those who are still there.
    const arrivals = (stat.cversion + stat.numChildren) / 2;
    const strangers = line.arrivals === null ? 0 : arrivals - line.arrivals - line.ownArrivals;
    line.arrivals = arrivals;
    line.ownArrivals = 0;
    const places = readLine(children);
    line.isWanted = this.areWaiting(places);
    const sharing = places.slice(0, countHolders(places));
    const strangersHere = sharing.filter(({ owner }) => !this.#entries.has(owner)).length;
    // Who came and went did not wait, but wanted it.
    if (line.isWanted || strangers > strangersHere) this.#on({ is: 'wanted', key: line.key });
  }
}

/** That of a holder, if it is held here. */
function sessionOf(line: Line): Session | undefined {
  for (const { isHeld, session } of line.entries) if (isHeld) return session;
  return undefined;
}
