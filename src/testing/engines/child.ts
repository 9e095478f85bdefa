/**
 * The program that the suite runs as another process: one engine, which does what it is told over the channel to its
 * parent. It ends when its parent is gone.
 */
import type { Outbox, StateStore } from '../../consumer/contracts.ts';
import type { EngineCommands, EngineReply, EngineRequest, EngineStart } from './protocol.ts';
import { envelopeOf, messageOf } from './samples.ts';

function send(reply: EngineReply): Promise<void> {
  return new Promise((resolve) => {
    process.send?.(reply, () => resolve());
  });
}

function commandsOf(engine: StateStore & Outbox): EngineCommands {
  const unique = `${process.pid}`;
  return {
    async load(key, tokenText) {
      return (await engine.load(key, { tokenText }, [])).is;
    },
    async add(key, tokenText) {
      const lease = { tokenText };
      for (let round = 0; ; round += 1) {
        const loaded = await engine.load(key, lease, []);
        if (loaded.is === 'stale') throw new Error(`stale behind ${loaded.fence}`);
        const message = messageOf(`${unique}:${round}`);
        const outcome = await engine.commit({
          key,
          lease,
          id: message.id,
          expectedVersion: loaded.version,
          value: String(Number(loaded.value ?? 0) + 1),
          messages: [message],
        });
        if (outcome.is !== 'committed') throw new Error(`not committed but ${outcome.is}`);
        await send({ is: 'done', message: message.id });
      }
    },
    async fill(name) {
      for (let round = 0; ; round += 1) {
        const id = `${name}:${unique}:${round}`;
        await engine.put([envelopeOf(id)], 0);
        await send({ is: 'done', message: id });
      }
    },
    async claim(most, leaseMs) {
      const { deliveries } = await engine.claim(most, leaseMs);
      return deliveries.map(({ envelope }) => envelope.id ?? 'none');
    },
  };
}

async function answer(commands: EngineCommands, request: EngineRequest): Promise<void> {
  const { id } = request;
  try {
    const command = commands[request.command] as (...args: unknown[]) => Promise<unknown>;
    await send({ is: 'value', id, value: await command(...request.args) });
  } catch (error) {
    await send({ is: 'error', id, message: (error as Error).message });
  }
}

async function start({ from }: EngineStart): Promise<void> {
  type Factory = (options: unknown) => StateStore & Outbox;
  const made = (await import(from.module)) as Record<string, Factory>;
  const engine = made[from.factory]?.(from.options);
  if (!engine) throw new Error(`${from.module} does not export ${from.factory}`);
  await engine.open();
  const commands = commandsOf(engine);
  process.on('message', (request: EngineRequest) => void answer(commands, request));
  await send({ is: 'ready' });
}

process.on('disconnect', () => process.exit(1));
// A failure ends the process, and its parent's error output says why.
process.once('message', (message: EngineStart) => void start(message));
