/**
 * A worker of its own process: adds up contributions of a queue, on RabbitMQ and Redis or in a folder, and kills itself
 * where it is told to.
 */
import { LockManager } from 'leasehold';
import { consume, outbox, republish, retry } from 'leasehold/consumer';
import { embedded, embeddedOutbox, embeddedSource, embeddedState } from 'leasehold/embedded';
import { partitioned, rabbitmq } from 'leasehold/rabbitmq';
import { redis, redisOutbox, redisState } from 'leasehold/redis';

const order = JSON.parse(process.env.LEASEHOLD_WORKER);
const { queue, crash, ttlMs = 2_000, waitMs = 1_000, retainMs, elideLock, workMs = 0 } = order;

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

/** The same engine. Points are reached before a call is made, once it is sent, and after it has been answered. */
function watched(engine, points) {
  return new Proxy(engine, {
    get(target, name) {
      const value = Reflect.get(target, name, target);
      if (typeof value !== 'function') return value;
      if (name === 'elision') return (...args) => elisionOf(value.apply(target, args), points);
      return (...args) => {
        const { before, concerns, sent, answered, counts } = points[name] ?? {};
        if (before && concerns(...args)) reach(before);
        const answer = value.apply(target, args);
        if (sent) setImmediate(() => reach(sent));
        if (!answered) return answer;
        return answer.then((outcome) => {
          if (counts?.(outcome) ?? true) reach(answered);
          return outcome;
        });
      };
    },
  });
}

/** What is done without locks reaches the same points. */
function elisionOf(real, points) {
  return real && watched(real, points);
}

function onServers({ amqp, redisUrl, partitions, minReplicas = 0 }) {
  const place = partitions ? partitioned(queue, partitions) : queue;
  return {
    source: rabbitmq({ url: amqp, queue: place, prefetch: 50 }),
    state: redisState(redisUrl, { prefix: `${queue}:`, minReplicas }),
    locks: redis(redisUrl, { prefix: `${queue}-lock:` }),
    outbox: () => redisOutbox(redisUrl, { name: `${queue}-outbox` }),
  };
}

function inFolder({ folder: path }) {
  return {
    source: embeddedSource({ path, queue, prefetch: 50 }),
    state: embeddedState({ path }),
    locks: embedded({ path }),
    outbox: () => embeddedOutbox({ path }),
  };
}

const engines = order.folder ? inFolder(order) : onServers(order);
const isContribution = ({ envelope }) => envelope.id.startsWith('m-');
const again = { delayMs: 100, backoff: 'fixed', maxAttempts: 1_000 };
function onBusy() {
  if (!order.outboxLeaseMs) return republish(again);
  const store = watched(engines.outbox(), {
    put: { answered: 'after putting' },
    claim: { answered: 'after claiming', counts: ({ deliveries }) => deliveries.length > 0 },
    putBack: { answered: 'after putting back' },
    // Poison is removed too, and a copy of that is no duplicate.
    acknowledge: { before: 'before removing', concerns: (all) => all.some(isContribution) },
  });
  return outbox(store, { ...again, pollMs: 50, leaseMs: order.outboxLeaseMs });
}

/** While the gate is closed, reducers wait at it with the state in their hands. */
let gate = Promise.resolve();
let openGate = () => {};
function closeGate() {
  gate = new Promise((resolve) => {
    openGate = resolve;
  });
  tell({ is: 'closed', metrics: consumer.metrics() });
}

const locks = new LockManager({ store: engines.locks, ttlMs });
const consumer = consume({
  source: watched(engines.source, {
    republish: { sent: 'after publish', answered: 'after confirm' },
    deadLetter: { answered: 'after dead-lettering' },
  }),
  locks,
  state: watched(engines.state, {
    commit: { answered: 'after commit' },
    markDead: { answered: 'after marking as dead' },
  }),
  keepState: order.keepState ?? false,
  keyOf: (message) => message.body.account,
  waitMs,
  ...(retainMs === undefined ? {} : { retainMs }),
  ...(elideLock === undefined ? {} : { elideLock }),
  maxBatch: 20,
  onBusy: onBusy(),
  onFailed: retry({ maxAttempts: 2, delayMs: 50 }),
  async reduce(total, messages) {
    reach('in mid-batch');
    if (messages.some(({ body }) => body.amount < 0)) throw new Error('there is no such amount');
    tell({ is: 'working' });
    await gate;
    if (workMs > 0) await new Promise((resolve) => setTimeout(resolve, workMs));
    return messages.reduce((sum, { body }) => sum + body.amount, total ?? 0);
  },
});

const tellMetrics = () => tell({ is: 'metrics', metrics: consumer.metrics() });
async function end() {
  await consumer.stop();
  // What its last batches counted may be younger than what was told last.
  tellMetrics();
  await locks.close();
  process.off('disconnect', dieAlone);
  // Nothing is left that would keep this process: it ends by itself.
  process.disconnect();
}
process.on('message', (message) => {
  if (message === 'stop') void end();
  else if (message === 'close the gate') closeGate();
  else openGate();
});
await consumer.ready;
setInterval(tellMetrics, 20).unref();
