/**
 * A worker as many are written: each message is handled by itself, and in between reading a total and writing it, nothing
 * stops anybody else; or only a lock that the tasks of this one process share.
 */
import { LockManager } from 'leasehold';
import type { Delivery, MessageSource } from 'leasehold/consumer';
import { memory } from 'leasehold/memory';
import { add, parseContribution } from './contribution.ts';
import type { PlainTotals } from './plain.ts';

export interface Counts {
  settled: number;
  unsettled: number;
}

export class NaiveWorker {
  readonly counts: Counts = { settled: 0, unsettled: 0 };
  readonly #source: MessageSource;
  readonly #totals: PlainTotals;
  readonly #locks: LockManager | null;
  readonly #under = new Set<Promise<void>>();

  constructor(parts: {
    readonly source: MessageSource;
    readonly totals: PlainTotals;
    readonly withLock: boolean;
  }) {
    this.#source = parts.source;
    this.#totals = parts.totals;
    this.#locks = parts.withLock ? new LockManager({ store: memory() }) : null;
  }

  async start(onFailure: (cause: unknown) => void): Promise<void> {
    await this.#source.open({
      delivered: (delivery) => {
        const handled = this.#handle(delivery).catch(onFailure);
        this.#under.add(handled);
        void handled.finally(() => this.#under.delete(handled));
      },
      failed: onFailure,
    });
  }

  async stop(): Promise<void> {
    await this.#source.stop();
    await Promise.all(this.#under);
    await this.#source.close();
    await this.#locks?.close();
  }

  async #handle(delivery: Delivery): Promise<void> {
    this.counts.unsettled += 1;
    const parsed = parseContribution(delivery.envelope.content);
    if (parsed.is !== 'contribution') throw new Error('the queue holds what is no contribution');
    const { contribution } = parsed;
    const { account } = contribution;
    const section = async (): Promise<void> => {
      const total = await this.#totals.read(account);
      await this.#totals.write(account, add(total, contribution));
    };
    if (this.#locks) await this.#locks.withLock(`contribution:${account}`, section);
    else await section();
    await this.#source.acknowledge([delivery]);
    this.counts.settled += 1;
    this.counts.unsettled -= 1;
  }
}
