/**
 * How a holder learns that other processes want its key: not at all when it is quick, and by one
 * watch and one look when it is not, however many they are (docs/adr/0073).
 */
import { newAlarm, systemClock } from '../core/clock.ts';
import type { StoreEvent } from '../core/store.ts';
import type { Entries, Line } from './entries.ts';
import { countHolders, type Place, readLine } from './nodes.ts';
import type { Stat } from './requests.ts';
import * as requests from './requests.ts';
import type { Session } from './session.ts';

/** A lease that is still held after this time is told of newcomers: what is short is not. */
const LISTEN_AFTER_MS = 20;

export class Others {
  readonly #entries: Entries;
  readonly #on: (event: StoreEvent) => void;
  /**
   * Lines that are held here and that nobody listens to yet, and when that begins: the next one
   * first.
   */
  readonly #unheard = new Map<Line, number>();
  readonly #alarm = newAlarm(systemClock, () => this.#listenToDue(), false);

  constructor(entries: Entries, on: (event: StoreEvent) => void) {
    this.#entries = entries;
    this.#on = on;
  }

  /** Whether somebody who does not belong to this store waits. */
  areWaiting(line: readonly Place[]): boolean {
    return line.slice(countHolders(line)).some(({ owner }) => !this.#entries.has(owner));
  }

  listenSoon(line: Line): void {
    if (line.isListening || this.#unheard.has(line)) return;
    this.#unheard.set(line, systemClock.monotonicMs() + LISTEN_AFTER_MS);
    this.#alarm.within(LISTEN_AFTER_MS);
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
    this.#alarm.stop();
    this.#unheard.clear();
  }

  #listenToDue(): void {
    for (const [line, dueMs] of this.#unheard) {
      const leftMs = dueMs - systemClock.monotonicMs();
      if (leftMs > 0) {
        this.#alarm.within(leftMs);
        return;
      }
      this.#unheard.delete(line);
      this.#listen(line).catch(() => {});
    }
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
    const { names, stat } = await session.send(requests.children(line.path, isWatched));
    this.#heard(line, names, stat);
    return !(line.isWanted || line.isListening);
  }

  #heard(line: Line, names: readonly string[], stat: Stat): void {
    // The count of changes is twice the count of arrivals, less those who are still there.
    const arrivals = (stat.cversion + stat.numChildren) / 2;
    const strangers = line.arrivals === null ? 0 : arrivals - line.arrivals - line.ownArrivals;
    line.arrivals = arrivals;
    line.ownArrivals = 0;
    const places = readLine(names);
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
