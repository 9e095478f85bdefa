/** One process of the hot key on ZooKeeper: CONNECT KEY FILE TASKS WARM_UP_MS DURATION_MS */
import { openSync, readSync, writeSync } from 'node:fs';
import { LockManager } from 'leasehold';
import { zookeeper } from 'leasehold/zookeeper';

const DIGITS = 20;

const [connect = '', key = '', name = '', tasks, warmUpMs, durationMs] = process.argv.slice(2);
const file = openSync(name, 'r+');
const locks = new LockManager({ store: zookeeper({ connect }), waitMs: 60_000 });
await locks.withLock('warm-up', async () => {});
const fromMs = performance.now() + Number(warmUpMs);
const untilMs = fromMs + Number(durationMs);
const text = Buffer.alloc(DIGITS);
const tally = { total: 0, measured: 0, longestWaitMs: 0 };

function addOne(): void {
  readSync(file, text, 0, DIGITS, 0);
  writeSync(file, String(Number(text.toString()) + 1).padStart(DIGITS, '0'), 0);
}

async function work(): Promise<void> {
  while (performance.now() < untilMs) {
    const askedMs = performance.now();
    const lease = await locks.acquire(key);
    const waitedMs = performance.now() - askedMs;
    try {
      addOne();
    } finally {
      await lease.release();
    }
    tally.total += 1;
    const nowMs = performance.now();
    if (nowMs < fromMs || nowMs >= untilMs) continue;
    tally.measured += 1;
    tally.longestWaitMs = Math.max(tally.longestWaitMs, waitedMs);
  }
}

await Promise.all(Array.from({ length: Number(tasks) }, work));
await locks.close();
process.stdout.write(JSON.stringify(tally));
