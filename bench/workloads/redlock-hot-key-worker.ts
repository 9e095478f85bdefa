/** One process of the hot key on Redlock: PORTS DATA_PORT CONTENDER POLL_MS TASKS WARM_UP_MS DURATION_MS */
import { LockManager } from 'leasehold';
import { redlock } from 'leasehold/redlock';
import { connect, contender, type Locker, OURS, openContender } from '../contenders.ts';

const [ports = '', dataPort, name = '', poll, tasks, warmUpMs, durationMs] = process.argv.slice(2);
const clients = ports.split(',').map((port) => connect(Number(port)));
const data = connect(Number(dataPort));
const locker = name === OURS ? ours() : await openContender(contender(name, pollMs()), clients);
const key = `hot:${name}`;
await locker.withLock(`warm-up:${process.pid}`, async () => {});
const fromMs = performance.now() + Number(warmUpMs);
const untilMs = fromMs + Number(durationMs);
const tally = { total: 0, measured: 0, longestWaitMs: 0, longestHoldMs: 0 };

function pollMs(): number | null {
  return poll === 'null' ? null : Number(poll);
}

function ours(): Locker {
  const locks = new LockManager({ store: redlock(clients), waitMs: 60_000 });
  return {
    async withLock(lock, work) {
      await locks.withLock(lock, work);
      return 0;
    },
    close: () => locks.close(),
  };
}

async function work(): Promise<void> {
  while (performance.now() < untilMs) {
    const askedMs = performance.now();
    let [waitedMs, heldMs] = [0, 0];
    await locker.withLock(key, async () => {
      const grantedMs = performance.now();
      waitedMs = grantedMs - askedMs;
      const before = Number((await data.get('data')) ?? 0);
      await data.set('data', before + 1);
      heldMs = performance.now() - grantedMs;
    });
    tally.total += 1;
    const nowMs = performance.now();
    if (nowMs < fromMs || nowMs >= untilMs) continue;
    tally.measured += 1;
    tally.longestWaitMs = Math.max(tally.longestWaitMs, waitedMs);
    tally.longestHoldMs = Math.max(tally.longestHoldMs, heldMs);
  }
}

await Promise.all(Array.from({ length: Number(tasks) }, work));
await locker.close();
process.stdout.write(JSON.stringify(tally));
for (const client of [...clients, data]) client.disconnect();
