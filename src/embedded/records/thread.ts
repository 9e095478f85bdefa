/**
 * The thread of the records: takes batches of calls, gives back answers and events, in the order in which they came
 * about.
 */
import {
  type MessagePort,
  parentPort,
  receiveMessageOnPort,
  workerData,
} from 'node:worker_threads';
import { isComparable, isKnownDead, newChannel } from '../channel.ts';
import { ExitGuard } from '../exit-guard.ts';
import { prepareRecords } from '../folder.ts';
import { outboxPart } from '../outbox/steps.ts';
import { Peers } from '../peers.ts';
import type { Batch, EngineData, FromEngine, ToEngine } from '../protocol.ts';
import { queuePart } from '../queue/steps.ts';
import { statePart } from '../state/steps.ts';
import { openRecords, type PartCall, type RecordsEngine } from './engine.ts';

function post(message: FromEngine<unknown>): void {
  parentPort?.postMessage(message);
}

function asError(thrown: unknown): Error {
  return thrown instanceof Error ? thrown : new Error(String(thrown));
}

/** Other processes get in between two transactions: none makes many more calls than this. */
const CALLS_A_TRANSACTION = 500;

/** Everything that has arrived while the last transaction waited for the disk, so that it shares the next wait. */
function gather(first: ToEngine<PartCall>): { batches: Batch<PartCall>[]; isClosing: boolean } {
  const batches: Batch<PartCall>[] = [];
  let calls = 0;
  for (let next: ToEngine<PartCall> | undefined = first; next !== undefined; ) {
    if (next.is === 'close') return { batches, isClosing: true };
    batches.push(next);
    calls += next.calls.length;
    if (calls >= CALLS_A_TRANSACTION) break;
    const waiting = receiveMessageOnPort(parentPort as MessagePort);
    next = waiting?.message as ToEngine<PartCall> | undefined;
  }
  return { batches, isClosing: false };
}

/** Answers first, for events follow from them; then the others. */
function answer(engine: RecordsEngine, peers: Peers, batches: readonly Batch<PartCall>[]): void {
  if (batches.length === 0) return;
  peers.lookAfterSocket();
  try {
    const { answers, messages } = engine.run(batches.flatMap(({ calls }) => calls));
    let from = 0;
    for (const { id, calls } of batches) {
      post({ is: 'answers', id, answers: answers.slice(from, from + calls.length) });
      from += calls.length;
    }
    for (const [channel, event] of messages) {
      if (channel === peers.channel) post({ is: 'event', event });
      else peers.tell(channel, event);
    }
  } catch (error) {
    for (const { id } of batches) post({ is: 'error', id, error: asError(error) });
  }
}

async function start(): Promise<void> {
  const { path, guard } = workerData as EngineData;
  const { recordsPath, sockets } = prepareRecords(path);
  const peers = new Peers(newChannel(), sockets, (event) => post({ is: 'event', event }));
  const engine = await openRecords({
    path: recordsPath,
    guard: new ExitGuard(guard),
    channel: peers.channel,
    parts: { queue: queuePart, state: statePart, outbox: outboxPart },
    // A process of another container cannot be looked up: its socket tells.
    isGone: (channel) =>
      isComparable(channel) ? isKnownDead(channel) : !peers.isListening(channel),
  });
  await peers.listen();
  const close = async (): Promise<void> => {
    await peers.close();
    await engine.close();
    parentPort?.close();
  };
  parentPort?.on('message', (message: ToEngine<PartCall>) => {
    const { batches, isClosing } = gather(message);
    answer(engine, peers, batches);
    if (isClosing) void close();
  });
  post({ is: 'opened' });
}

start().catch((error: unknown) => post({ is: 'failed', error: asError(error) }));
