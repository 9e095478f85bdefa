/**
 * A process that locks as it is told. It runs under a wall clock of its own.
 *
 * in:  { path }, then { call: 'acquire' | 'try' | 'state' | 'release' | 'close' }
 * out: { result }
 */
import { LockManager } from 'leasehold';
import { embedded } from 'leasehold/embedded';

const KEY = 'key';
const TTL_MS = 5_000;

let locks;
let lease = null;

const calls = {
  open: ({ path }) => {
    locks = new LockManager({ store: embedded({ path }), ttlMs: TTL_MS });
    return Date.now();
  },
  acquire: async () => {
    lease = await locks.acquire(KEY);
    lease.signal.addEventListener('abort', () => process.send({ event: 'aborted' }));
    return lease.tokenText;
  },
  try: async () => {
    const got = await locks.tryAcquire(KEY);
    await got?.release();
    return got?.tokenText ?? null;
  },
  state: () => lease.state,
  release: () => lease.release(),
  close: async () => {
    await locks.close();
    // After the answer.
    setImmediate(() => process.disconnect());
  },
};

async function answer(message) {
  const result = await calls[message.call](message);
  process.send({ result: result ?? null });
}

// What fails here ends the process, and that fails the test.
process.on('message', (message) => void answer(message));
