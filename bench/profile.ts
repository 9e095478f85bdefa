/**
 * Where the processor time of this process goes while something runs: V8's own sampling, summed up by whose code it is.
 */
import { Session } from 'node:inspector/promises';

/** Microseconds by place. */
export type Profile = Readonly<Record<string, number>>;

const SAMPLED_EVERY_US = 200;
export const IDLE = 'idle';
const GARBAGE = 'garbage collector';
const NATIVE = 'V8 and the system';
export const BENCHMARK = 'the benchmark';
const CLIENTS = 'client libraries';
const NODE = 'Node.js: sockets, streams, timers';

export async function profiled<T>(run: () => Promise<T>): Promise<{ result: T; profile: Profile }> {
  const session = new Session();
  session.connect();
  try {
    await session.post('Profiler.enable');
    await session.post('Profiler.setSamplingInterval', { interval: SAMPLED_EVERY_US });
    await session.post('Profiler.start');
    const result = await run();
    const { profile } = await session.post('Profiler.stop');
    const places = new Map(profile.nodes.map(({ id, callFrame }) => [id, placeOf(callFrame)]));
    const byPlace: Record<string, number> = {};
    for (const [index, node] of (profile.samples ?? []).entries()) {
      const place = places.get(node) ?? NATIVE;
      byPlace[place] = (byPlace[place] ?? 0) + (profile.timeDeltas?.[index] ?? 0);
    }
    return { result, profile: byPlace };
  } finally {
    session.disconnect();
  }
}

function placeOf({ functionName, url }: { functionName: string; url: string }): string {
  if (url.startsWith('node:')) return NODE;
  if (url !== '') {
    const [, folder] = /\/dist\/src\/(\w+)\//.exec(url) ?? [];
    if (folder !== undefined) return `leasehold/${folder}`;
    return url.includes('/node_modules/') ? CLIENTS : BENCHMARK;
  }
  if (functionName === '(idle)') return IDLE;
  return functionName === '(garbage collector)' ? GARBAGE : NATIVE;
}
