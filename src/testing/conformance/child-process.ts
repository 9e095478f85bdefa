/**
 * A process that the suite started, with a manager of its own: to be told what to do, and to be stopped and killed.
 */
import { fork, type ChildProcess as NodeChildProcess } from 'node:child_process';
import type {
  ChildCommand,
  ChildCommands,
  ChildReply,
  ChildRequest,
  ChildStart,
} from './child-protocol.ts';
import type { StoreModule } from './fixture.ts';

const PROGRAM = new URL('./child.js', import.meta.url);
/** Of what the process wrote to its error output, this much is kept for messages. */
const MAX_ERROR_OUTPUT = 4_000;

interface Pending {
  resolve(value: unknown): void;
  reject(error: Error): void;
}

export class ChildProcess {
  /** Resolves when its manager can be told what to do. */
  readonly ready: Promise<void>;
  /** Resolves with the exit code when the process has ended; `null` when a signal ended it. */
  readonly exited: Promise<number | null>;
  readonly #process: NodeChildProcess;
  readonly #pending = new Map<ChildRequest['id'] | 'ready', Pending>();
  #requests = 0;
  #errorOutput = '';

  constructor(store: StoreModule, options: ChildStart['options']) {
    this.#process = fork(PROGRAM, { stdio: ['ignore', 'ignore', 'pipe', 'ipc'], execArgv: [] });
    this.#process.stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.#errorOutput = (this.#errorOutput + text).slice(-MAX_ERROR_OUTPUT);
    });
    this.#process.on('message', (reply: ChildReply) => this.#settle(reply));
    this.exited = new Promise((resolve) => {
      this.#process.once('close', (code) => {
        this.#failPending(`the process ended with ${code}: ${this.#errorOutput}`);
        resolve(code);
      });
    });
    this.ready = this.#promise('ready');
    this.#write({ store, options });
  }

  /** Rejects with an error of the same name and message when the command failed over there. */
  call<Name extends ChildCommand>(
    command: Name,
    ...args: Parameters<ChildCommands[Name]>
  ): ReturnType<ChildCommands[Name]> {
    this.#requests += 1;
    const request: ChildRequest = { id: this.#requests, command, args };
    const answer = this.#promise<Awaited<ReturnType<ChildCommands[Name]>>>(request.id);
    // The case may be over before the answer comes.
    answer.catch(() => {});
    this.#write(request);
    return answer as ReturnType<ChildCommands[Name]>;
  }

  /** SIGSTOP: not one step more, and no chance to say so. */
  stop(): void {
    this.#process.kill('SIGSTOP');
  }

  /** SIGCONT: goes on where it was stopped. */
  goOn(): void {
    this.#process.kill('SIGCONT');
  }

  /** SIGKILL. Resolves when the process has ended. */
  async kill(): Promise<void> {
    this.#process.kill('SIGKILL');
    await this.exited;
  }

  #promise<Value>(id: ChildRequest['id'] | 'ready'): Promise<Value> {
    return new Promise<Value>((resolve, reject) => {
      this.#pending.set(id, { resolve: resolve as Pending['resolve'], reject });
    });
  }

  #write(message: ChildStart | ChildRequest): void {
    this.#process.send(message, (error) => {
      if (error) this.#failPending(`the process cannot be reached: ${error.message}`);
    });
  }

  #settle(reply: ChildReply): void {
    const pending = this.#pending.get(reply.id);
    this.#pending.delete(reply.id);
    if (!pending) return;
    if (!('error' in reply)) {
      pending.resolve('value' in reply ? reply.value : undefined);
      return;
    }
    const error = new Error(reply.error.message);
    error.name = reply.error.name;
    pending.reject(error);
  }

  #failPending(message: string): void {
    const pending = [...this.#pending.values()];
    this.#pending.clear();
    for (const one of pending) one.reject(new Error(message));
  }
}
