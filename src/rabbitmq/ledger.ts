/**
 * The deliveries of one channel that are not settled yet, and how they are: many acknowledgements in one frame.
 *
 * The broker numbers the deliveries of a channel from 1 on, and one frame can acknowledge all up to a number. So all
 * that were acknowledged in one turn of the event loop, and that come before the first unsettled one, are one frame;
 * those behind it are a frame each. As long as most deliveries are still being worked on, a few milliseconds are waited for
 * more: each frame is work for the broker, and each write wakes it.
 */
import type { AmqpChannel } from './client.ts';
import { type Gatherable, gather } from './gather.ts';

/** How long acknowledgements wait for others, in milliseconds. */
const WAIT_MS = 4;
/** They wait while there are more unsettled deliveries than this many times theirs, so that the broker has more to send. */
const FEW = 2;

export class Ledger {
  readonly #channel: AmqpChannel;
  readonly #stream: Gatherable | undefined;
  /** In the order of their numbers. */
  readonly #open = new Set<number>();
  #acknowledged: number[] = [];
  #flushed: Promise<void> | null = null;
  #isLive = true;

  constructor(channel: AmqpChannel, stream: Gatherable | undefined) {
    this.#channel = channel;
    this.#stream = stream;
  }

  /** False once the channel is gone: whatever was not settled is delivered again. */
  get isLive(): boolean {
    return this.#isLive;
  }

  get unsettled(): number {
    return this.#open.size;
  }

  add(tag: number): void {
    this.#open.add(tag);
  }

  /** Counts once for each delivery, and only while the channel is there. Resolves when the frames were sent. */
  acknowledge(tag: number): Promise<void> {
    if (!this.#isLive || !this.#open.delete(tag)) return this.#flushed ?? Promise.resolve();
    this.#acknowledged.push(tag);
    this.#flushed ??= new Promise((resolve) => {
      const flush = (): void => {
        this.flush();
        resolve();
      };
      setImmediate(() => {
        const isFew = this.#open.size > FEW * this.#acknowledged.length;
        if (isFew && this.#isLive) setTimeout(flush, WAIT_MS);
        else flush();
      });
    });
    return this.#flushed;
  }

  release(tag: number): void {
    if (!this.#isLive || !this.#open.delete(tag)) return;
    this.#send(() => this.#channel.nack(frame(tag), false, true));
  }

  flush(): void {
    const tags = this.#acknowledged;
    this.#acknowledged = [];
    this.#flushed = null;
    if (tags.length === 0 || !this.#isLive) return;
    // A Set keeps the order of insertion, which is that of the numbers.
    const lowestOpen = this.#open.values().next().value ?? Number.POSITIVE_INFINITY;
    let upTo = 0;
    for (const tag of tags) if (tag < lowestOpen && tag > upTo) upTo = tag;
    this.#send(() => {
      gather(this.#stream);
      if (upTo > 0) this.#channel.ack(frame(upTo), true);
      for (const tag of tags) if (tag > lowestOpen) this.#channel.ack(frame(tag), false);
    });
  }

  /** The channel is gone. */
  end(): void {
    this.#isLive = false;
    this.#open.clear();
    this.#acknowledged = [];
  }

  /** A channel that ends at this moment throws; then there is nothing to settle any more. */
  #send(write: () => void): void {
    try {
      write();
    } catch {
      this.end();
    }
  }
}

function frame(deliveryTag: number): { readonly fields: { readonly deliveryTag: number } } {
  return { fields: { deliveryTag } };
}
