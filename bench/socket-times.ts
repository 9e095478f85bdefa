/**
 * When this process last wrote to a port, and last read from it: what shows where the time of a hand-over goes.
 */
import { Socket } from 'node:net';
import { machineMs } from './measure.ts';

export interface SocketTimes {
  readonly wroteAtMs: number;
  readonly readAtMs: number;
}

/** Watches all sockets of this process from now on, and costs each of them a little. Tells the times so far. */
export function watchSockets(port: number): () => SocketTimes {
  let [wroteAtMs, readAtMs] = [0, 0];
  const sockets = Socket.prototype as unknown as Record<
    'write' | 'push',
    (this: Socket, ...args: unknown[]) => unknown
  >;
  const { write, push } = sockets;
  sockets.write = function watched(...args) {
    if (this.remotePort === port) wroteAtMs = machineMs();
    return write.apply(this, args);
  };
  sockets.push = function watched(...args) {
    if (this.remotePort === port) readAtMs = machineMs();
    return push.apply(this, args);
  };
  return () => ({ wroteAtMs, readAtMs });
}
