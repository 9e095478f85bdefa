/**
 * The queue and the totals, in one `lmdb` environment, so that one transaction can change both.
 *
 * That is what makes an effect happen exactly once: the total grows and the message leaves the queue in the same commit.
 * A process that dies before it has done neither, a process that dies after it has done both, and a machine that loses
 * power goes back to one consistent moment of the two together.
 *
 * Transactions are asynchronous: `lmdb` runs them one after the other over all processes, and commits those that
 * were made at the same time as one group. (A callback that throws half-way does not undo its writes, so every
 * callback here decides first and writes afterwards.)
 */
import { open } from 'lmdb';
import { Ledger } from './ledger.ts';
import { Queue } from './queue.ts';

export interface Books {
  readonly queue: Queue;
  readonly ledger: Ledger;
  close(): Promise<void>;
}

export function openBooks(folder: string): Books {
  // Overlapping sync has a lock that a process killed while it holds it leaves behind broken: survivors then fail with
  // MDB_PANIC. Without it, a commit is on the disk when it is done, and a dead process is cleaned up after.
  const environment = open({ path: folder, maxDbs: 4, overlappingSync: false });
  const queue = new Queue(environment);
  const ledger = new Ledger(environment, queue);
  return { queue, ledger, close: () => environment.close() };
}
