/**
 * Many small writes to one connection cost more than all the work around them: each is a call of the system, and wakes
 * the other side.
 */

/** The part of a stream that is needed here. */
export interface Gatherable {
  cork(): void;
  uncork(): void;
}

const gathering = new WeakSet<Gatherable>();

/**
 * Whatever is sent over a connection of amqplib in this turn of the event loop leaves together. The library hands it to
 * the stream in the turn after this one, so that the one after that is when all of it is there.
 */
export function gather(stream: Gatherable | undefined): void {
  if (stream === undefined || gathering.has(stream)) return;
  gathering.add(stream);
  stream.cork();
  setImmediate(() => {
    setImmediate(() => {
      gathering.delete(stream);
      stream.uncork();
    });
  });
}
