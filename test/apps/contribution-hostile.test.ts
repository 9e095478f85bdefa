/** The service does not trust its input: whatever arrives, it answers for it, goes on, and keeps its secrets. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { connect } from 'node:net';
import { resolve } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { removeFolder, temporaryFolder, until } from '../servers/processes.ts';

const MAIN = resolve('dist/apps/contribution/main.js');
const SECRET = 'hunter2';
/** What a server may answer to anything. */
const STATUSES = [200, 202, 400, 404, 405, 408, 413, 414, 415, 417, 422, 431, 505];

interface Running {
  readonly child: ChildProcess;
  readonly folder: string;
  /** All that was printed. */
  said(): string;
}

function start(...args: readonly string[]): Running {
  const folder = temporaryFolder();
  const all = [MAIN, 'serve', '--port', '0', '--data', folder, ...args];
  const child = spawn(process.execPath, all, { stdio: ['ignore', 'pipe', 'pipe'] });
  let text = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (more: string) => {
      text += more;
    });
  }
  return { child, folder, said: () => text };
}

async function end({ child, folder }: Running): Promise<void> {
  if (child.exitCode === null && child.signalCode === null) {
    child.kill('SIGKILL');
    await once(child, 'close');
  }
  removeFolder(folder);
}

async function portOf(running: Running): Promise<number> {
  await until('the service listens', () => running.said().includes('listening on'));
  return Number(/http:\/\/\S+:(\d+)/.exec(running.said())?.[1]);
}

/** Sends these bytes, says that they are all if that is so, and resolves with what comes back until the connection ends. */
function exchange(port: number, bytes: Buffer, areAll = true): Promise<string> {
  return new Promise((done) => {
    let text = '';
    const socket = connect(port, '127.0.0.1', () => {
      if (areAll) socket.end(bytes);
      else socket.write(bytes);
    });
    socket.setEncoding('latin1');
    socket.on('data', (more: string) => {
      text += more;
    });
    socket.on('error', () => {});
    socket.on('close', () => done(text));
  });
}

function statusesIn(answer: string): number[] {
  return [...answer.matchAll(/^HTTP\/1\.1 (\d{3})/gm)].map(([, status]) => Number(status));
}

describe('the service', () => {
  let service: Running;
  let port: number;
  beforeAll(async () => {
    service = start('--workers', '0', '--rate', '1000000');
    port = await portOf(service);
  });
  afterAll(() => end(service));

  const request = (line: string, headers: readonly string[], body: Buffer): Buffer => {
    const all = ['Host: h', 'Connection: close', ...headers, `Content-Length: ${body.length}`];
    return Buffer.concat([Buffer.from([line, ...all, '', ''].join('\r\n'), 'latin1'), body]);
  };

  const path = fc.oneof(
    fc.constantFrom('/', '/contributions', '/contributions/', '/health', '/ready', '/metrics', '*'),
    fc.constantFrom('/contributions/%', '/contributions/%zz', '/contributions/%00', '/%2e%2e/x'),
    fc.constantFrom('/contributions/../../etc/passwd', '/contributions/a/b', '//', '/?a[]=1&a=2'),
    fc.constantFrom('/contributions/__proto__', '/contributions/%F0%9F', '/contributions?x=%ff'),
    fc.nat({ max: 20_000 }).map((length) => `/contributions/${'x'.repeat(length)}`),
    fc.webPath().map((given) => `/${given}`),
    fc.string().map((text) => `/contributions/${encodeURIComponent(text.toWellFormed())}`),
  );
  const method = fc.constantFrom(
    'GET',
    'POST',
    'PUT',
    'DELETE',
    'OPTIONS',
    'HEAD',
    'PATCH',
    'BREW',
  );
  const header = fc.oneof(
    fc.constantFrom('Content-Type: application/json', 'Content-Type: text/plain', 'Content-Type:'),
    fc.constantFrom('Content-Type: application/json; charset=utf-16', 'Content-Encoding: gzip'),
    fc.constantFrom('Idempotency-Key: a b', 'Idempotency-Key:', 'Idempotency-Key: \xe9'),
    fc.constantFrom('Transfer-Encoding: chunked', 'Content-Length: -1', 'Expect: 100-continue'),
    fc.constantFrom('Expect: x', 'Accept: */*;q=z', 'Host: a', 'Upgrade: websocket', 'Range: x'),
    fc.nat({ max: 20_000 }).map((length) => `X-Long: ${'y'.repeat(length)}`),
  );
  const body = fc.oneof(
    fc.constantFrom('{}', '{"account":"a","amount":1}', '{"__proto__":{"account":"a"},"amount":1}'),
    fc.constantFrom('[]', 'null', '{"account":{},"amount":[]}', '{"account":"a","amount":1e99}'),
    fc.constantFrom('', '\0', '{"account":"a","account":"b","amount":1}', '{"amount":'),
    fc.nat({ max: 100_000 }).map((length) => '['.repeat(length)),
    fc.json(),
    fc.string({ unit: 'binary' }),
  );

  test('answers requests of any kind, never with a fault of its own', async () => {
    let answered = 0;
    const one = fc.tuple(method, path, fc.array(header, { maxLength: 4 }), body);
    const property = fc.asyncProperty(
      fc.array(one, { minLength: 10, maxLength: 10 }),
      async (all) => {
        const answers = all.map(([verb, where, headers, text]) => {
          const typed = headers.length > 0 ? headers : ['Content-Type: application/json'];
          return exchange(port, request(`${verb} ${where} HTTP/1.1`, typed, Buffer.from(text)));
        });
        for (const answer of await Promise.all(answers)) {
          // One that is cut off in the middle of its headers may miss the answer.
          const statuses = statusesIn(answer).filter((status) => status !== 100);
          answered += statuses.length;
          for (const status of statuses) expect(STATUSES).toContain(status);
        }
      },
    );
    await fc.assert(property, { numRuns: 25 });
    expect(
      statusesIn(await exchange(port, request('GET /health HTTP/1.1', [], Buffer.alloc(0)))),
    ).toEqual([200]);
    expect(answered).toBeGreaterThan(100);
    // What is the client's fault is not written down.
    expect(service.said().trim().split('\n')).toHaveLength(1);
  });

  test('is not ended by bytes that are no request', async () => {
    const property = fc.asyncProperty(fc.uint8Array({ maxLength: 500 }), async (bytes) => {
      const answer = await exchange(port, Buffer.from(bytes));
      for (const status of statusesIn(answer)) expect(STATUSES).toContain(status);
    });
    await fc.assert(property, { numRuns: 50 });
    expect(
      statusesIn(await exchange(port, request('GET /health HTTP/1.1', [], Buffer.alloc(0)))),
    ).toEqual([200]);
  });

  test('reads no more of a body than it takes', async () => {
    const large = Buffer.alloc(65_537, 'x');
    const headers = ['Content-Type: application/json'];
    const answer = await exchange(port, request('POST /contributions HTTP/1.1', headers, large));
    expect(statusesIn(answer)).toEqual([413]);
    // Of a body that does not say how long it is, no more than that is waited for. Whoever went on to send more, could lose
    // the answer: the connection is reset under what nobody reads.
    const chunk = `10000\r\n${'x'.repeat(65_536)}\r\n1\r\nx\r\n`;
    const head =
      'POST /contributions HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Type: application/json\r\n';
    const endless = Buffer.from(`${head}Transfer-Encoding: chunked\r\n\r\n${chunk}`);
    expect(statusesIn(await exchange(port, endless, false))).toEqual([413]);
  });
});

describe('secrets', () => {
  const LOGIN = `someone:${SECRET}@127.0.0.1:1`;

  test.each([
    [
      'the addresses of engines that are away',
      ['--amqp', `amqp://${LOGIN}`, '--redis', `redis://${LOGIN}`],
    ],
    ['the address of ZooKeeper', ['--locks', `zookeeper://${LOGIN}`]],
    [
      'addresses that are wrong',
      ['--amqp', `amqp://someone:${SECRET}%@h`, '--redis', `redis://${LOGIN}`],
    ],
  ])('of %s are in nothing that is printed or answered', async (_, args) => {
    const service = start('--workers', '1', ...args);
    try {
      const isUp = (): boolean => service.said().includes('listening on');
      await until('it is up or over', () => isUp() || service.child.exitCode !== null);
      if (isUp()) {
        const url = `http://127.0.0.1:${await portOf(service)}`;
        const body = '{"account":"a","amount":1}';
        const headers = { 'content-type': 'application/json' };
        for (const path of ['/contributions', '/ready', '/contributions/a']) {
          const post = path === '/contributions' ? { method: 'POST', body, headers } : {};
          const answer = await fetch(url + path, post);
          expect(await answer.text()).not.toContain(SECRET);
        }
      }
      expect(service.said()).not.toBe('');
      expect(service.said()).not.toContain(SECRET);
    } finally {
      await end(service);
    }
  });
});
