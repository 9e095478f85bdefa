/**
 * Where copies wait until their delay is over: which queue one goes to, and when that can be trusted.
 *
 * A quorum queue is there for others before it is finished: on RabbitMQ 3.10 the first messages can miss its TTL, and
 * then never expire; and a broker that is killed can lose a new queue with all that it had confirmed. So nothing is put
 * into a queue before it has been there for a while (docs/adr/0098).
 */
import { setTimeout as delay } from 'node:timers/promises';
import { ConfirmTimeout, NotPublishedError } from './errors.ts';
import type { Sender } from './sender.ts';
import { delayQueue, GROWN_UP_MS } from './topology.ts';

export class Delays {
  readonly #sender: Sender;
  readonly #periodMs: number;
  /** Those that did not confirm: one that was made just before a crash of the broker can be without a leader. */
  readonly #silent = new Set<string>();

  constructor(sender: Sender, periodMs: number) {
    this.#sender = sender;
    this.#periodMs = periodMs;
  }

  /**
   * Resolves when the copy is safe. `publish` sends it to the queue of the given name. Rejects with its error, or with
   * `QueueUnusableError`. The first copies for a delay wait some seconds before they are sent, over each connection.
   */
  async put(
    home: string,
    delayMs: number,
    publish: (queue: string) => Promise<void>,
  ): Promise<void> {
    const queue = delayQueue(home, delayMs, this.#periodMs, Date.now());
    const isSilent = this.#silent.has(queue.name);
    const used = isSilent ? `${queue.name}.spare` : queue.name;
    await this.#make(used, queue.arguments);
    try {
      await publish(used);
    } catch (error) {
      if (!(error instanceof NotPublishedError)) throw error;
      if (error.cause instanceof ConfirmTimeout) {
        // The next attempt takes the other one.
        if (isSilent) this.#silent.delete(queue.name);
        else this.#silent.add(queue.name);
      }
      if (error.fault !== 'returned') throw error;
      // Somebody deleted it.
      await this.#sender.forget(used);
      await this.#make(used, queue.arguments);
      await publish(used);
    }
  }

  /** Whoever made it did so before it was declared here. */
  async #make(name: string, args: Readonly<Record<string, unknown>>): Promise<void> {
    const declaredAtMs = await this.#sender.declare(name, args);
    const leftMs = declaredAtMs + GROWN_UP_MS - performance.now();
    if (leftMs <= 0) return;
    try {
      await delay(leftMs, undefined, { signal: this.#sender.closed });
    } catch {
      throw new NotPublishedError(name, 'closed');
    }
  }
}
