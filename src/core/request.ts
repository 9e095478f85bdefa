/**
 * A caller that waits for a key, and the line in which it waits.
 */
import type { Timer } from './clock.ts';
import type { Lease } from './lease.ts';
import type { Spec } from './options.ts';

export class Request {
  readonly spec: Spec;
  /** One attempt only: it is answered at once and never waits in the store. */
  readonly once: boolean;
  /** By the monotonic clock; `null` when nobody wants to know. */
  readonly sinceMs: number | null;
  readonly resolve: (lease: Lease) => void;
  readonly reject: (reason: unknown) => void;
  timer: Timer = null;
  /** Removes its abort listener. */
  onLeave: (() => void) | null = null;
  previous: Request | null = null;
  next: Request | null = null;

  constructor(parts: {
    readonly spec: Spec;
    readonly once: boolean;
    readonly sinceMs: number | null;
    readonly resolve: (lease: Lease) => void;
    readonly reject: (reason: unknown) => void;
  }) {
    this.spec = parts.spec;
    this.once = parts.once;
    this.sinceMs = parts.sinceMs;
    this.resolve = parts.resolve;
    this.reject = parts.reject;
  }
}

/** First come, first served; whoever gives up leaves from anywhere, in constant time. */
export class RequestQueue {
  head: Request | null = null;
  length = 0;
  #tail: Request | null = null;

  push(request: Request): void {
    request.previous = this.#tail;
    if (this.#tail === null) this.head = request;
    else this.#tail.next = request;
    this.#tail = request;
    this.length += 1;
  }

  remove(request: Request): void {
    if (request.previous === null) this.head = request.next;
    else request.previous.next = request.next;
    if (request.next === null) this.#tail = request.previous;
    else request.next.previous = request.previous;
    request.previous = null;
    request.next = null;
    this.length -= 1;
  }

  /** How many stand before this one. */
  ahead(request: Request): number {
    let count = 0;
    for (let one = request.previous; one !== null; one = one.previous) count += 1;
    return count;
  }

  /** The one at a place, counted from the head. */
  at(index: number): Request | null {
    let request = this.head;
    for (let place = 0; request !== null && place < index; place += 1) request = request.next;
    return request;
  }
}
