/** The server did not answer in time. What was sent may still be executed. */
export class RequestTimeoutError extends Error {
  readonly #late: Promise<unknown>;

  constructor(what: string, timeoutMs: number, late: Promise<unknown>) {
    super(`Redis did not answer ${what} within ${timeoutMs} ms`);
    this.name = 'RequestTimeoutError';
    this.#late = late;
  }

  /** Settles when the client expects no answer any more. */
  get late(): Promise<unknown> {
    return this.#late;
  }
}

/** Settles as the promise does, or rejects with `RequestTimeoutError` when that takes too long. */
export function within<T>(promise: Promise<T>, timeoutMs: number, what: string): Promise<T> {
  return new Promise((resolve, reject) => {
    // The connection holds the process open, and so does whoever waits; this timer need not.
    const timer = setTimeout(
      () => reject(new RequestTimeoutError(what, timeoutMs, promise)),
      timeoutMs,
    );
    timer.unref();
    promise.then(
      (value) => {
        clearTimeout(timer);
        resolve(value);
      },
      (error) => {
        clearTimeout(timer);
        reject(error);
      },
    );
  });
}
