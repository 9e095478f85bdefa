/**
 * The benchmark runs, and a wrong sum voids a row. No figure is looked at: those depend on the machine.
 */
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { beforeAll, expect, test } from 'vitest';
import { ROOT } from '../package/installed.ts';
import { lane, TOOLS } from '../servers/require.ts';

const run = promisify(execFile);

/** Within the package, where its own name leads to its build; the peers are not installed here, and are void. */
const OUT = join(ROOT, 'dist/bench-test');

interface Row {
  readonly name: string;
  readonly figures: Record<string, number>;
  readonly invalid?: string;
}

lane('the benchmark', TOOLS.redis, () => {
  beforeAll(async () => {
    await run('npx', ['tsc', '-p', 'bench', '--outDir', OUT], { cwd: ROOT });
  });

  test('a quick run measures, and a wrong sum voids its row', async () => {
    const program = join(OUT, 'bench/main.js');
    const { stdout } = await run('node', [program, 'hot-key', '--quick', '--json'], { cwd: ROOT });
    const { tables } = JSON.parse(stdout) as { tables: { rows: Row[] }[] };
    const rows = new Map(tables.flatMap((table) => table.rows).map((row) => [row.name, row]));
    const [ours, unlocked] = [rows.get('leasehold'), rows.get('no lock, all tasks')];
    expect(ours?.invalid).toBeUndefined();
    expect(ours?.figures['perSecond']).toBeGreaterThan(0);
    expect(unlocked?.invalid).toMatch(/^wrong sum: \d+ in Redis after \d+ additions$/);
    expect(unlocked?.figures).toEqual({});
  });

  test('an unknown workload is an error of the command line', async () => {
    const program = join(OUT, 'bench/main.js');
    await expect(run('node', [program, 'none'], { cwd: ROOT })).rejects.toMatchObject({ code: 2 });
  });
});
