/** npm run torture: see `arguments.ts`. */
import { type Arguments, readArguments, USAGE, UsageError } from './arguments.ts';
import { ENGINES } from './engines/index.ts';
import { hasOwnNetwork, inOwnNetwork } from './engines/own-network.ts';
import { describe, reportOf } from './report.ts';
import { type RunResult, run } from './run.ts';

const WRONG = 1;
const USAGE_WRONG = 2;
const PROVES_NOTHING = 3;

async function main(): Promise<number> {
  const options = readArguments(process.argv.slice(2));
  if (options.faults.includes('partition') && !hasOwnNetwork()) {
    const code = await inOwnNetwork();
    if (code !== null) return code;
  }
  const ours = await run({ ...options, subject: 'leasehold' });
  const report = reportOf(options, ours, options.control ? await runPeer(options) : null);
  process.stdout.write(`${options.json ? JSON.stringify(report) : describe(report)}\n`);
  if (report.violations.length > 0) return WRONG;
  return report.proves ? 0 : PROVES_NOTHING;
}

/** On the same engine where a peer has one for it, otherwise on one Redis server. */
function runPeer(options: Arguments): Promise<RunResult> {
  const store = ENGINES[options.store]?.makeClient ? options.store : 'redis';
  return run({ ...options, store, subject: 'redis-semaphore' });
}

try {
  process.exitCode = await main();
} catch (error) {
  if (!(error instanceof UsageError)) throw error;
  process.stderr.write(`${error.message}\n\n${USAGE}`);
  process.exitCode = USAGE_WRONG;
}
