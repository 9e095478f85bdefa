/**
 * A process that the suite started, with an engine of its own: to be told what to do, and to be killed.
 */
import { fork, type ChildProcess as NodeChildProcess } from 'node:child_process';
import { once } from 'node:events';
import type { StoreModule } from '../conformance/fixture.ts';
import type { EngineCommand, EngineCommands, EngineReply, EngineStart } from './protocol.ts';

const PROGRAM = new URL('./child.js', import.meta.url);

interface Pending {
  resolve(value: never): void;
  reject(error: Error): void;
}

export class EngineProcess {
  readonly ready: Promise<void>;
  /** The ids of the messages that its engine has answered for. */
  readonly done: string[] = [];
  readonly #process: NodeChildProcess;
  readonly #exited: Promise<unknown>;
  readonly #pending = new Map<number, Pending>();
  #requests = 0;

  constructor(from: StoreModule) {
    this.#process = fork(PROGRAM, { stdio: ['ignore', 'ignore', 'inherit', 'ipc'], execArgv: [] });
    this.#exited = once(this.#process, 'exit');
    this.ready = new Promise((resolve, reject) => {
      this.#process.once('exit', () => reject(new Error('the process ended before it was ready')));
      this.#process.on('message', (reply: EngineReply) => {
        if (reply.is === 'ready') resolve();
        else this.#receive(reply);
      });
    });
    this.ready.catch(() => {});
    const start: EngineStart = { from };
    this.#process.send(start);
  }

  /** What the command gives; never settles when the process is killed before it has answered. */
  call<Name extends EngineCommand>(
    command: Name,
    ...args: Parameters<EngineCommands[Name]>
  ): ReturnType<EngineCommands[Name]> {
    this.#requests += 1;
    const id = this.#requests;
    const answer = new Promise<never>((resolve, reject) => {
      this.#pending.set(id, { resolve, reject });
    });
    this.#process.send({ id, command, args });
    return answer as ReturnType<EngineCommands[Name]>;
  }

  async kill(): Promise<void> {
    if (this.#process.exitCode === null && this.#process.signalCode === null) {
      this.#process.kill('SIGKILL');
      await this.#exited;
    }
  }

  #receive(reply: Exclude<EngineReply, { is: 'ready' }>): void {
    if (reply.is === 'done') {
      this.done.push(reply.message);
      return;
    }
    const pending = this.#pending.get(reply.id);
    this.#pending.delete(reply.id);
    if (reply.is === 'value') pending?.resolve(reply.value as never);
    else pending?.reject(new Error(reply.message));
  }
}
