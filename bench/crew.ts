/**
 * Worker processes: the same program for every workload that needs more than one process. They are started once for a
 * workload, and each round gives them a job.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import type { Job, Results } from './jobs.ts';

/** So long before a job begins, that all processes have it. */
const START_DELAY_MS = 50;

export class Crew {
  readonly #workers: ChildProcess[];
  readonly #nodeOptions: readonly string[];

  constructor(size: number, nodeOptions: readonly string[] = []) {
    this.#nodeOptions = nodeOptions;
    this.#workers = Array.from({ length: size }, () => this.#start());
  }

  /**
   * Gives the job to the first so many processes, all at the same moment. Whoever has not answered in time is killed,
   * and another takes its place.
   */
  async run<Kind extends Job['kind']>(
    job: Extract<Job, { kind: Kind }>,
    size: number = this.#workers.length,
    maxMs = Infinity,
  ): Promise<Results[Kind][]> {
    const startAtMs = Date.now() + START_DELAY_MS;
    const crew = this.#workers.slice(0, size);
    const answers = crew.map((worker, place) =>
      answerTo<Results[Kind]>(worker, { ...job, startAtMs, place }),
    );
    const kill = (): void => {
      for (const worker of crew) worker.kill('SIGKILL');
    };
    const timer = maxMs === Infinity ? undefined : setTimeout(kill, maxMs);
    // All have answered before anything else is asked, or an answer would be taken for another's.
    await Promise.allSettled(answers);
    clearTimeout(timer);
    for (const [place, worker] of crew.entries()) {
      if (worker.killed || worker.exitCode !== null) this.#workers[place] = this.#start();
    }
    return Promise.all(answers);
  }

  end(): void {
    for (const worker of this.#workers) worker.kill();
  }

  #start(): ChildProcess {
    const program = join(import.meta.dirname, 'worker.js');
    return fork(program, { execArgv: [...process.execArgv, ...this.#nodeOptions] });
  }
}

/** Runs with so many processes, which have ended afterwards. */
export async function withCrew<T>(
  size: number,
  use: (crew: Crew) => Promise<T>,
  nodeOptions: readonly string[] = [],
): Promise<T> {
  const crew = new Crew(size, nodeOptions);
  try {
    return await use(crew);
  } finally {
    crew.end();
  }
}

async function answerTo<Answer>(worker: ChildProcess, message: object): Promise<Answer> {
  const stop = new AbortController();
  const { signal } = stop;
  const died = once(worker, 'exit', { signal }).then(([code]) => {
    throw new Error(worker.killed ? 'it had not ended in time' : `a worker ended with ${code}`);
  });
  const answer = once(worker, 'message', { signal }).then(([value]) => value);
  died.catch(() => {});
  answer.catch(() => {});
  worker.send(message);
  try {
    const { result, error } = (await Promise.race([answer, died])) as {
      readonly result: Answer;
      readonly error?: string;
    };
    if (error !== undefined) throw new Error(error);
    return result;
  } finally {
    stop.abort();
  }
}
