/**
 * The story with its locks on other engines than its totals, and with its totals on Redis: exact, one instance killed.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { removeFolder, temporaryFolder } from '../servers/processes.ts';
import { RedisServer } from '../servers/redis.ts';
import { lane, TOOLS } from '../servers/require.ts';
import { ZooKeeperServer } from '../servers/zookeeper.ts';

const MAIN = resolve('dist/apps/contribution/main.js');
const COUNT = 600;
const TIMEOUT = { timeout: 120_000 };

let folder: string;
let servers: { close(): Promise<void> }[] = [];

beforeEach(() => {
  folder = temporaryFolder();
});

afterEach(async () => {
  await Promise.all(servers.map((server) => server.close()));
  servers = [];
  removeFolder(folder);
});

async function started<Server extends { close(): Promise<void> }>(
  starting: Promise<Server>,
): Promise<Server> {
  const server = await starting;
  servers.push(server);
  return server;
}

async function expectExact(...engines: readonly string[]): Promise<void> {
  const input = join(folder, 'input.ndjson');
  const lines = Array.from({ length: COUNT }, (_, index) =>
    JSON.stringify({ account: `account-${index % 10}`, amount: index + 1 }),
  );
  writeFileSync(input, lines.join('\n'));
  const args = ['--only', 'leasehold', '--kill-at', '5', '--input', input, '--data', folder];
  const child = spawn(process.execPath, [MAIN, ...args, ...engines], { cwd: folder });
  let out = '';
  let err = '';
  child.stdout.on('data', (text) => {
    out += text;
  });
  child.stderr.on('data', (text) => {
    err += text;
  });
  const [code] = await once(child, 'close');
  const cents = ((COUNT * (COUNT + 1)) / 2).toLocaleString('en-US');
  expect(err).toBe('');
  expect(out).toMatch(new RegExp(`leasehold, 3 instances +${cents} +${cents} `));
  expect(out).toContain('was killed (-9)');
  expect(code).toBe(0);
}

lane('the story with locks on ZooKeeper', TOOLS.zookeeper, () => {
  test('is exact with embedded totals', TIMEOUT, async () => {
    const { port } = await started(ZooKeeperServer.start());
    await expectExact('--locks', `zookeeper://127.0.0.1:${port}`);
  });
});

lane('the story on Redis', TOOLS.redis, () => {
  test('is exact with its locks there', TIMEOUT, async () => {
    const { url } = await started(RedisServer.start());
    await expectExact('--redis', url);
  });

  test('is exact with its locks on Redlock', TIMEOUT, async () => {
    const urls: string[] = [];
    for (let count = 0; count < 3; count += 1) {
      urls.push((await started(RedisServer.start())).url);
    }
    await expectExact('--redis', urls[0] as string, '--locks', urls.join(','));
  });
});
