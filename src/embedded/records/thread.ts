/**
 * The thread of the records: takes batches of calls, gives back answers and events, in the order in which they came
 * about.
 */
import { parentPort, workerData } from 'node:worker_threads';
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

/** Answers first, for events follow from them; then the others. */
function answer(engine: RecordsEngine, peers: Peers, { id, calls }: Batch<PartCall>): void {
  peers.lookAfterSocket();
  try {
    const { answers, messages } = engine.run(calls);
    post({ is: 'answers', id, answers });
    for (const [channel, event] of messages) {
      if (channel === peers.channel) post({ is: 'event', event });
      else peers.tell(channel, event);
    }
  } catch (error) {
    post({ is: 'error', id, error: asError(error) });
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
    if (message.is === 'batch') answer(engine, peers, message);
    else void close();
  });
  post({ is: 'opened' });
}

start().catch((error: unknown) => post({ is: 'failed', error: asError(error) }));
