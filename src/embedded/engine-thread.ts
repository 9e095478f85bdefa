/**
 * The engine's thread: takes batches of calls from the store, gives back answers and events, in the order in which they
 * came about.
 */
import { parentPort, workerData } from 'node:worker_threads';
import { newChannel } from './channel.ts';
import { type Engine, openEngine } from './engine.ts';
import { ExitGuard } from './exit-guard.ts';
import { prepareFolder } from './folder.ts';
import { Peers } from './peers.ts';
import type { Answer, Batch, Call, EngineData, FromEngine, ToEngine } from './protocol.ts';

function post(message: FromEngine<Answer>): void {
  parentPort?.postMessage(message);
}

function asError(thrown: unknown): Error {
  return thrown instanceof Error ? thrown : new Error(String(thrown));
}

/** Other processes first, for they wait for a wake-up; then the caller; and events only after the answers they follow. */
function answer(engine: Engine, peers: Peers, { id, calls }: Batch<Call>): void {
  peers.lookAfterSocket();
  try {
    const { answers, messages } = engine.run(calls);
    for (const [channel, event] of messages) {
      if (channel !== peers.channel) peers.tell(channel, event);
    }
    post({ is: 'answers', id, answers });
    for (const [channel, event] of messages) {
      if (channel === peers.channel) post({ is: 'event', event });
    }
  } catch (error) {
    post({ is: 'error', id, error: asError(error) });
  }
}

async function start(): Promise<void> {
  const { path, guard } = workerData as EngineData;
  const folder = prepareFolder(path);
  const peers = new Peers(newChannel(), folder.sockets, (event) => post({ is: 'event', event }));
  const engine = await openEngine({
    path: folder.leasesPath,
    synced: folder.synced,
    guard: new ExitGuard(guard),
    channel: peers.channel,
    isListening: (channel) => peers.isListening(channel),
  });
  await peers.listen();
  const close = async (): Promise<void> => {
    await peers.close();
    await engine.close();
    parentPort?.close();
  };
  parentPort?.on('message', (message: ToEngine<Call>) => {
    if (message.is === 'batch') answer(engine, peers, message);
    else void close();
  });
  post({ is: 'opened' });
}

start().catch((error: unknown) => post({ is: 'failed', error: asError(error) }));
