/** Ends the run of a peer as soon as it has lost an update: nothing more is to be learned from it. */
import { setTimeout } from 'node:timers/promises';
import type { Crew } from './crew.ts';
import { type Entry, nowUs, readHistory } from './history.ts';
import type { Subject, WorkloadName } from './orders.ts';
import { parseLedger } from './values/ledger.ts';
import type { Onlooker } from './values/values.ts';

const LOOK_EVERY_MS = 500;

export class Lookout {
  hasSeenLoss = false;
  readonly #timer: NodeJS.Timeout;

  constructor(
    { subject, workload }: { readonly subject: Subject; readonly workload: WorkloadName },
    onlooker: Onlooker,
    crew: Crew,
  ) {
    const isWanted = subject !== 'leasehold' && workload !== 'queue';
    const hasLost = workload === 'ledger' ? hasLostPosting : hasLostUpdate;
    this.#timer = setInterval(() => {
      if (!isWanted) return;
      // The history first: whatever it says was written before is in a value that is read after.
      void hasLost(readHistory(crew.files), onlooker).then(
        (isLost) => {
          this.hasSeenLoss ||= isLost;
        },
        () => {},
      );
    }, LOOK_EVERY_MS);
  }

  /** Without faults that take up the time, the run lasts as long all the same. */
  async end(endUs: number): Promise<void> {
    while (!this.hasSeenLoss && nowUs() < endUs) await setTimeout(LOOK_EVERY_MS / 10);
    clearInterval(this.#timer);
  }
}

/** More were acknowledged than the number says. */
async function hasLostUpdate(entries: readonly Entry[], onlooker: Onlooker): Promise<boolean> {
  const keyOf = new Map<string, string>();
  const acknowledged = new Map<string, number>();
  for (const entry of entries) {
    if (entry.is === 'reads') keyOf.set(entry.op, entry.key);
    if (entry.is !== 'ended' || entry.outcome !== 'done') continue;
    const key = keyOf.get(entry.op) ?? '';
    acknowledged.set(key, (acknowledged.get(key) ?? 0) + 1);
  }
  for (const [key, count] of acknowledged) {
    if (Number.parseInt((await onlooker.getPlain(key)) ?? '0', 10) < count) return true;
  }
  return false;
}

/** A posting was entered, and is not there any more. */
async function hasLostPosting(entries: readonly Entry[], onlooker: Onlooker): Promise<boolean> {
  const keyOf = new Map<string, string>();
  for (const entry of entries) if (entry.is === 'posts') keyOf.set(entry.message, entry.key);
  const noted = entries.flatMap((entry) => (entry.is === 'noted' ? entry.message : []));
  for (const key of new Set(keyOf.values())) {
    const postings = new Set(parseLedger(await onlooker.getPlain(key)));
    if (noted.some((one) => keyOf.get(one) === key && !postings.has(one))) return true;
  }
  return false;
}
