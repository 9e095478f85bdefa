/** The worker processes of a run, each with proxies of its own between it and every server. */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { until } from '../servers/processes.ts';
import { TcpProxy } from '../servers/proxy.ts';
import { clockEnvironment, setClock } from './clock.ts';
import type { FromWorker, Order, ToWorker } from './orders.ts';

const PROGRAM = fileURLToPath(new URL('worker.js', import.meta.url));

export interface CrewOptions {
  /** All but what is different in each worker. */
  readonly order: Omit<Order, 'worker' | 'via' | 'file' | 'seed' | 'retainMs'>;
  readonly seed: number;
  readonly size: number;
  readonly folder: string;
  readonly ports: readonly number[];
  /** With the path of libfaketime, their clocks can be set. */
  readonly faketime: string | null;
}

/** A worker, in one process after the other. */
export class Worker {
  readonly index: number;
  /** In the order of the ports. */
  readonly proxies: readonly TcpProxy[];
  /** What its processes did that they should not. */
  readonly wrong: string[] = [];
  readonly files: string[] = [];
  readonly #options: CrewOptions;
  #child: ChildProcess | null = null;
  readonly #said = new Map<FromWorker['is'], FromWorker>();
  #ended: Promise<unknown> = Promise.resolve();
  #isExpectedToEnd = false;

  constructor(index: number, proxies: readonly TcpProxy[], options: CrewOptions) {
    this.index = index;
    this.proxies = proxies;
    this.#options = options;
  }

  get isRunning(): boolean {
    return this.#child !== null;
  }

  async start(): Promise<void> {
    const { order, seed, folder, ports, faketime } = this.#options;
    const worker = `w${this.index}-${this.files.length}`;
    const file = join(folder, `${worker}.ndjson`);
    const clock = this.#clock;
    if (faketime !== null && this.files.length === 0) setClock(clock, 0);
    this.files.push(file);
    const full: Order = {
      ...order,
      worker,
      file,
      via: Object.fromEntries(ports.map((port, at) => [port, this.proxies[at]?.port ?? port])),
      seed: seed * 1_000 + this.index * 100 + this.files.length,
      // Some keep what they had, so that others have to ask for it.
      retainMs: this.index % 2 === 0 ? 0 : order.ttlMs / 4,
    };
    const env = { ...process.env, ...(faketime && clockEnvironment(faketime, clock)) };
    const child = fork(PROGRAM, [JSON.stringify(full)], { env });
    this.#child = child;
    this.#said.clear();
    this.#isExpectedToEnd = false;
    child.on('message', (message: FromWorker) => this.#said.set(message.is, message));
    this.#ended = once(child, 'exit').then(([code, signal]) => {
      this.#child = null;
      if (!this.#isExpectedToEnd) this.wrong.push(`${worker} ended with ${code ?? signal}`);
    });
    await until(`${worker} is ready`, () => this.hasSaid('ready') || this.#child !== child);
  }

  hasSaid(what: FromWorker['is']): boolean {
    return this.#said.has(what);
  }

  /** The value before whose writing it stopped, once it has. */
  get stoppedBefore(): Extract<FromWorker, { is: 'stopping' }> | null {
    const message = this.#said.get('stopping');
    return message?.is === 'stopping' ? message : null;
  }

  tell(message: ToWorker): void {
    if (message.is === 'stop before a write') this.#said.delete('stopping');
    if (message.is === 'close') this.#isExpectedToEnd = true;
    if (this.#child?.connected) this.#child.send(message, () => {});
  }

  pause(): void {
    this.#child?.kill('SIGSTOP');
  }

  resume(): void {
    this.#child?.kill('SIGCONT');
  }

  async kill(): Promise<void> {
    this.#isExpectedToEnd = true;
    this.#child?.kill('SIGKILL');
    await this.#ended;
  }

  setClock(seconds: number): void {
    setClock(this.#clock, seconds);
  }

  get #clock(): string {
    return join(this.#options.folder, `w${this.index}.clock`);
  }
}

export class Crew {
  readonly workers: readonly Worker[];

  private constructor(workers: readonly Worker[]) {
    this.workers = workers;
  }

  static async start(options: CrewOptions): Promise<Crew> {
    const workers: Worker[] = [];
    for (let index = 0; index < options.size; index += 1) {
      const proxies: TcpProxy[] = [];
      for (const port of options.ports) proxies.push(await TcpProxy.start(port));
      workers.push(new Worker(index, proxies, options));
    }
    await Promise.all(workers.map((worker) => worker.start()));
    return new Crew(workers);
  }

  get files(): string[] {
    return this.workers.flatMap(({ files }) => files);
  }

  get wrong(): string[] {
    return this.workers.flatMap(({ wrong }) => wrong);
  }

  async close(): Promise<void> {
    await Promise.all(this.workers.map((worker) => worker.kill()));
    await Promise.all(this.workers.flatMap(({ proxies }) => proxies.map((one) => one.close())));
  }
}
