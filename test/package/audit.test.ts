/** The audit of CI, asked of a registry of the test's own. */
import { execFile } from 'node:child_process';
import { createServer, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { afterAll, beforeEach, expect, test } from 'vitest';
import { removeFolder, temporaryFolder } from '../servers/processes.ts';
import { ROOT } from './installed.ts';

const ADVISORIES = '/-/npm/v1/security/advisories/bulk';

type Severity = 'low' | 'moderate' | 'high' | 'critical';

function advisoryOf(name: string, severity: Severity): object {
  const url = 'https://example.test/advisory';
  return { [name]: [{ id: 1, url, title: 'a hole', severity, vulnerable_versions: '*' }] };
}

/** npm remembers what it made of an advisory: never where a real audit would find it. */
const caches: string[] = [];

beforeEach(() => {
  caches.push(temporaryFolder());
});

afterAll(() => caches.forEach(removeFolder));

interface Ended {
  readonly code: number;
  readonly output: string;
}

async function audit(answer: (response: ServerResponse) => void): Promise<Ended> {
  const server = createServer((request, response) => {
    request.resume();
    request.on('end', () => {
      if (request.url === ADVISORIES) return answer(response);
      response.writeHead(404).end('{}');
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  try {
    return await runWith(`http://127.0.0.1:${port}/`);
  } finally {
    server.closeAllConnections();
    server.close();
  }
}

function runWith(registry: string): Promise<Ended> {
  const env = {
    ...process.env,
    npm_config_registry: registry,
    npm_config_cache: caches.at(-1),
  };
  return new Promise((resolve) => {
    const script = join(ROOT, '.ci/audit.mjs');
    const child = execFile(process.execPath, [script], { cwd: ROOT, env }, (_error, output) =>
      resolve({ code: child.exitCode ?? -1, output }),
    );
  });
}

function answering(body: object): Promise<Ended> {
  return audit((response) => {
    response.setHeader('content-type', 'application/json');
    response.end(JSON.stringify(body));
  });
}

test.each(['high', 'critical'] as const)('an advisory that is %s fails', async (severity) => {
  const { code, output } = await answering(advisoryOf('fastify', severity));
  expect(output).toContain(`audit: ${severity}: fastify`);
  expect(output).toContain('a hole https://example.test/advisory');
  expect(code).toBe(1);
});

test.each(['low', 'moderate'] as const)('an advisory that is %s is shown', async (severity) => {
  const { code, output } = await answering(advisoryOf('fastify', severity));
  expect(output).toContain(`audit: ${severity}: fastify`);
  expect(code).toBe(0);
});

test('without an advisory it says how much was looked at', async () => {
  const { code, output } = await answering({});
  expect(output).toMatch(/^audit: [1-9]\d* packages, 0 with advisories/);
  expect(code).toBe(0);
});

test('a registry that gives none is said, and fails nothing', async () => {
  const refusal = await audit((response) => response.writeHead(405).end());
  const nonsense = await audit((response) => response.end('<html>'));
  const breaking = await audit((response) => response.destroy());
  const away = await runWith('http://127.0.0.1:1/');
  for (const { code, output } of [refusal, nonsense, breaking, away]) {
    expect(output).toMatch(/^audit: NOT DONE, the registry gave no advisories: \S/);
    expect(code).toBe(0);
  }
});
