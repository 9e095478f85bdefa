/**
 * How messages come into the queue of a keyed consumer: what producers of every engine share.
 */

/** A message to publish. */
export interface Publication {
  /** Under this id it takes effect once, however often it is published. Default: a random UUID. */
  readonly id?: string;
  /** Text is sent in UTF-8. */
  readonly content: Uint8Array | string;
  /** Default `application/json`. */
  readonly contentType?: string;
  readonly headers?: Readonly<Record<string, unknown>>;
  /** Chooses the partition, where the queue has partitions; without effect elsewhere. */
  readonly key?: string;
}

export interface Publisher {
  /**
   * Resolves with the message's id when the message is safe. A rejected promise means: not known, done or not done.
   * Publish it again with the same id then.
   */
  publish(publication: Publication): Promise<string>;
  /** Waits for what is under way, and closes what it opened. */
  close(): Promise<void>;
}
