/**
 * A worker of its own process: adds up contributions of a RabbitMQ queue on Redis, and kills itself where it is told to.
 */
import { LockManager } from 'leasehold';
import { consume, republish, retry } from 'leasehold/consumer';
import { rabbitmq } from 'leasehold/rabbitmq';
import { redis, redisState } from 'leasehold/redis';

const order = JSON.parse(process.env.LEASEHOLD_WORKER);
const { amqp, redisUrl, queue, crash, minReplicas = 0, ttlMs = 2_000, workMs = 0 } = order;

const dieAlone = () => process.kill(process.pid, 'SIGKILL');
process.on('disconnect', dieAlone);

function tell(message) {
  if (process.connected) process.send(message);
}

let left = crash?.times ?? 0;
/** At the given point, for the given time, this process ends as if its power was cut. */
function reach(point) {
  if (crash?.point !== point) return;
  left -= 1;
  if (left <= 0) process.kill(process.pid, 'SIGKILL');
}

/** The same engine; after a call has been answered, or just before, the points are reached. */
function watched(engine, before, after) {
  return new Proxy(engine, {
    get(target, name) {
      const value = Reflect.get(target, name, target);
      if (typeof value !== 'function') return value;
      return (...args) => {
        const answer = value.apply(target, args);
        if (before[name]) setImmediate(() => reach(before[name]));
        if (!after[name]) return answer;
        return answer.then((outcome) => {
          reach(after[name]);
          return outcome;
        });
      };
    },
  });
}

const source = watched(
  rabbitmq({ url: amqp, queue, prefetch: 50 }),
  { republish: 'after publish' },
  { republish: 'after confirm', deadLetter: 'after dead-lettering' },
);
const state = watched(
  redisState(redisUrl, { prefix: `${queue}:`, minReplicas }),
  {},
  { commit: 'after commit', markDead: 'after marking as dead' },
);
const locks = new LockManager({ store: redis(redisUrl, { prefix: `${queue}-lock:` }), ttlMs });

const consumer = consume({
  source,
  locks,
  state,
  keyOf: (message) => message.body.account,
  waitMs: 1_000,
  maxBatch: 20,
  onBusy: republish({ delayMs: 100, maxAttempts: 1_000 }),
  onFailed: retry({ maxAttempts: 2, delayMs: 50 }),
  async reduce(total, messages) {
    reach('in mid-batch');
    if (messages.some(({ body }) => body.amount < 0)) throw new Error('there is no such amount');
    tell({ is: 'working' });
    if (workMs > 0) await new Promise((resolve) => setTimeout(resolve, workMs));
    return messages.reduce((sum, { body }) => sum + body.amount, total ?? 0);
  },
});

async function end() {
  await consumer.stop();
  await locks.close();
  process.off('disconnect', dieAlone);
  // Nothing is left that would keep this process: it ends by itself.
  process.disconnect();
}
process.on('message', () => void end());
await consumer.ready;
setInterval(() => tell({ is: 'metrics', metrics: consumer.metrics() }), 20).unref();
